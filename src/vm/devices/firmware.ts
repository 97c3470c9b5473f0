import { constants } from 'node:fs';
import { chmod, copyFile } from 'node:fs/promises';
import { openPath } from '#host';
import { bootKind, type FirstSectors } from '#image';
import { type Emulator, flash, usableFirmware } from '#qemu';
import { type DiskSpec, diskKey, type VmSpec } from '#spec';
import { VmError } from '../error.ts';
import type { Emit } from '../task-event.ts';
import type { Prepared, Site } from './device.ts';

export type CheckedFirmware =
  | { readonly kind: 'bios' }
  | { readonly kind: 'uefi'; readonly codePath: string; readonly varsTemplate: string };

/** BIOS or UEFI: as the job sets it, else by the disk's first sectors. Throws VmError where the host has no UEFI. */
export async function checkFirmware(
  { firmware, arch }: Pick<VmSpec, 'firmware' | 'arch'>,
  emulator: Emulator,
  image: FirstSectors | undefined,
): Promise<CheckedFirmware> {
  const wanted = firmware ?? 'auto';
  // An arm64 machine has no BIOS.
  const needed =
    wanted === 'uefi' ||
    arch === 'aarch64' ||
    (wanted === 'auto' && image !== undefined && (await bootKind(image)) === 'uefi');
  if (!needed) return { kind: 'bios' };
  const uefi = usableFirmware(emulator);
  if (uefi === undefined) {
    throw new VmError(
      'host',
      `the VM needs UEFI firmware to boot ${image?.path ?? 'its disk'}, and this host has none for ${emulator.path}; install ovmf (x86-64) or qemu-efi-aarch64`,
      { recoverable: true },
    );
  }
  return { kind: 'uefi', codePath: uefi.code, varsTemplate: uefi.vars };
}

interface BootDisk {
  readonly spec: DiskSpec;
  readonly image: FirstSectors | undefined;
}

/** Why no firmware boots from the disk, where that is sure: a CD's image in a hard disk. */
export async function bootDiskProblems(disk: BootDisk | undefined): Promise<readonly VmError[]> {
  if (disk?.image === undefined || disk.spec.kind !== 'disk') return [];
  if ((await bootKind(disk.image)) !== 'cd') return [];
  const key = diskKey(disk.spec, 'source.image');
  const text = `${disk.image.path} is a CD image (ISO 9660) that boots from a CD drive only: write a disk block with kind = "cdrom", or an image of a disk`;
  return [new VmError('job', `${key}: ${text}`)];
}

/**
 * Whether no firmware boots from the disk, as far as its first sectors show, which is reported. The guest may know better.
 */
export async function reportUnbootable(disk: BootDisk | undefined, emit: Emit): Promise<boolean> {
  if (disk?.image === undefined || disk.spec.kind !== 'disk') return false;
  if ((await bootKind(disk.image)) !== 'none') return false;
  emit(`No boot sector and no EFI partition was found on the boot disk ${disk.spec.name}`, {
    image: disk.image.path,
  });
  return true;
}

/** Creates the VM's own firmware variables; nothing for a BIOS, which QEMU includes. */
export async function prepareFirmware(
  firmware: CheckedFirmware,
  { paths, files }: Site,
): Promise<readonly Prepared[]> {
  if (firmware.kind === 'bios') return [];
  await copyFile(firmware.varsTemplate, paths.firmwareVars);
  // copyFile keeps the template's mode.
  await chmod(paths.firmwareVars, 0o600);
  files.add('firmware-code', openPath(firmware.codePath, constants.O_RDONLY));
  const flags = constants.O_RDWR | constants.O_NOFOLLOW;
  files.add('firmware-vars', openPath(paths.firmwareVars, flags));
  return [{ part: flash(), record: { kind: 'firmware', id: 'firmware', code: firmware.codePath } }];
}
