import { bootKind, type OpenImage } from '#image';
import { type Emulator, usableFirmware } from '#qemu';
import type { VmSpec } from '#spec';
import { VmError } from '../error.ts';
import type { FirmwarePlan } from '../start/plan.ts';

/** BIOS or UEFI: as the job says, else as the disk's first sectors ask for. */
export async function planFirmware(
  spec: VmSpec,
  emulator: Emulator,
  image: OpenImage,
): Promise<FirmwarePlan> {
  const wanted = spec.firmware ?? 'auto';
  // An arm64 machine has no BIOS.
  const needed =
    wanted === 'uefi' ||
    spec.arch === 'aarch64' ||
    (wanted === 'auto' && (await bootKind(image)) === 'uefi');
  if (!needed) return { kind: 'bios' };
  const uefi = usableFirmware(emulator);
  if (uefi === undefined) {
    throw new VmError(
      'emulator',
      `the VM needs UEFI firmware to boot ${image.path}, and this host has none for ${emulator.path}; install ovmf (x86-64) or qemu-efi-aarch64`,
      { recoverable: true },
    );
  }
  return { kind: 'uefi', codePath: uefi.code, varsTemplate: uefi.vars };
}
