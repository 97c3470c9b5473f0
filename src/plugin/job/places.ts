import type { Job } from './job.ts';

/** Slots of a PCI bus beside that of its host bridge. Each interface of a guest and each shared directory has one. */
const maxPlaces = 31;

/** Those that a machine may have room for; reports that there are more, before each costs the host something. */
export function withPlaces<T>(
  wanted: readonly T[],
  { key, what, report }: Pick<Job, 'report'> & { readonly key: string; readonly what: string },
): readonly T[] {
  if (wanted.length > maxPlaces) {
    report(key, `${wanted.length} ${what} are more than the ${maxPlaces} possible`);
  }
  return wanted.slice(0, maxPlaces);
}
