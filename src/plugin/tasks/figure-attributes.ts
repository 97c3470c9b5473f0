import type { DomainFigures } from '#vm';

/** The figures of a VM that `nomad alloc status -stats` does not show, as attributes of InspectTask. */
export function figureAttributes({
  vcpus,
  disks,
  nics,
  guest,
  usage,
}: DomainFigures): Readonly<Record<string, string>> {
  const figures = [
    ...vcpus.flatMap(({ index, ...own }) => named(`vcpu.${index}`, own)),
    ...disks.flatMap(({ name, ...own }) => named(`disk.${name}`, own)),
    ...nics.flatMap(({ name, received, sent }) => [
      ...named(`${name}.received`, received),
      ...named(`${name}.sent`, sent),
    ]),
    ...named('guest', guest),
    ...named('throttling', usage.throttling ?? {}),
  ];
  return Object.fromEntries(figures.map(([name, value]) => [name, String(value)]));
}

function named(prefix: string, own: object): readonly (readonly [string, unknown])[] {
  return Object.entries(own).map(([key, value]) => [`${prefix}.${underscored(key)}`, value]);
}

/** `readBytes` → `read_bytes`. */
function underscored(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
