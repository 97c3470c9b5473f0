import { quoted } from '#spec';
import type { OptionText } from './option-text.ts';
import { type DriveWish, Refusal } from './wish.ts';

/** What QEMU's vvfat calls a disk that has no label of its own. */
const usualLabel = 'QEMU VVFAT';

/** A directory that is a disk, by the option that names it. */
export interface DirectoryDrive {
  readonly file: string;
  readonly directory: NonNullable<DriveWish['directory']>;
  readonly writable: boolean;
}

/** `fat:rw:DIR`, by QEMU's rules: what follows the last colon is the directory. undefined: the file is something else. */
export function directoryOf(file: string): DirectoryDrive | undefined {
  if (!file.startsWith('fat:')) return undefined;
  if (file.includes(':floppy:')) throw new Refusal('guests have no floppy: leave "floppy:" out');
  const directory = file.slice(file.lastIndexOf(':') + 1);
  return drive(directory, { writable: file.includes(':rw:'), label: undefined });
}

/** The directory of a `-drive`, by `file=fat:…` or by the keys of the driver vvfat. */
export function takeDirectory(
  option: OptionText,
  { file, format }: { readonly file: string; readonly format: string | undefined },
): DirectoryDrive | undefined {
  const named = directoryOf(file);
  const isVvfat = format === 'vvfat' || option.take('file.driver') === 'vvfat';
  if (named === undefined && !isVvfat) return undefined;
  const take = (key: string): string | undefined => option.take(key) ?? option.take(`file.${key}`);
  // The disk has FAT16, which every reader of another kind reads as well.
  option.ignore('fat-type', 'file.fat-type');
  if ((option.takeSwitch('floppy') ?? option.takeSwitch('file.floppy')) === true) {
    throw new Refusal('guests have no floppy: leave floppy out');
  }
  const writable = option.takeSwitch('rw') ?? option.takeSwitch('file.rw') ?? named?.writable;
  const directory = named?.file ?? take('dir') ?? '';
  return drive(directory, { writable: writable === true, label: take('label') });
}

function drive(
  directory: string,
  {
    writable,
    label = usualLabel,
  }: { readonly writable: boolean; readonly label: string | undefined },
): DirectoryDrive {
  if (directory === '') throw new Refusal('names no directory');
  if (!/^[\x20-\x7e]{1,11}$/.test(label) || /["*+,./:;<=>?[\\\]|]/.test(label)) {
    throw new Refusal(`label=${quoted(label)} is no label of at most 11 letters and digits`);
  }
  return { file: directory, directory: { label }, writable };
}
