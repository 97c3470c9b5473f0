import { constants } from 'node:fs';
import { chmod, copyFile } from 'node:fs/promises';
import { openPath } from '#host';
import { bootKind, type FirstSectors } from '#image';
import { type Emulator, flash, usableFirmware } from '#qemu';
import type { VmSpec } from '#spec';
import { VmError } from '../error.ts';
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
