import { quoted } from '#spec';
import { refuseRest } from './machine-options.ts';
import { OptionText } from './option-text.ts';
import { type OptionKind, Refusal, type Wish } from './wish.ts';

/** Directories of the host in the guest. */
export const shareOptions: readonly OptionKind[] = [
  {
    names: ['virtfs'],
    value: 'local,path=/local,mount_tag=files,security_model=none',
    becomes:
      'A share by 9p with that tag, always read-only. `path` is a directory of the task or the allocation (`local`, `secrets`, `alloc`, by any of their names); other directories are refused for a `volume_mount`.',
    read: (value) => {
      const option = new OptionText(value, 'fsdriver');
      const tag = option.take('mount_tag') ?? '';
      return readShare(option, tag);
    },
  },
  {
    names: ['fsdev'],
    value: 'local,id=files,path=/local,security_model=none',
    becomes:
      'The directory of the `-device virtio-9p-pci` with this `fsdev`, by the rules of `-virtfs`.',
    read: (value) => readShare(new OptionText(value, 'fsdriver'), undefined),
  },
];

function readShare(option: OptionText, tag: string | undefined): readonly Wish[] {
  const driver = option.take('fsdriver') ?? '';
  const id = option.take('id');
  const path = option.take('path') ?? '';
  option.ignore('security_model', 'readonly', 'writeout', 'fmode', 'dmode', 'multidevs');
  if (driver !== 'local') throw new Refusal(`${quoted(driver)} is not supported: use local`);
  refuseRest(option);
  if (path === '') throw new Refusal('has no path');
  return [{ kind: 'share', id, path, tag }];
}

/** The names under which a guest finds a share: they become parts of paths. */
export function tagProblem(tag: string): string | undefined {
  if (/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}$/.test(tag)) return undefined;
  return `mount_tag ${quoted(tag)} is not a name of at most 31 letters, digits, dots and dashes`;
}
