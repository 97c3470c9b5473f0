import type { Emulator } from '#host';
import { bootKind, type OpenImage } from '#image';
import { VmError } from './error.ts';
import type { FirmwarePlan } from './plan.ts';
import type { VmSpec } from './spec.ts';

/** BIOS or UEFI: as the job says, else as the disk's first sectors ask for. */
export async function planFirmware(
  spec: VmSpec,
  emulator: Emulator,
  image: OpenImage,
): Promise<FirmwarePlan> {
  const wanted = spec.firmware ?? 'auto';
  // Firmware with keys would refuse unsigned systems; with system management mode it needs another machine.
  const uefi = emulator.firmware.find(
    (it) => it.format === 'raw' && !it.needsSmm && !it.secureBoot,
  );
  // An arm64 machine has no BIOS.
  const needed =
    wanted === 'uefi' ||
    spec.arch === 'aarch64' ||
    (wanted === 'auto' && (await bootKind(image)) === 'uefi');
  if (!needed) return { kind: 'bios' };
  if (uefi === undefined) {
    throw new VmError(
      'emulator',
      `the image ${image.path} boots by UEFI, and this host has no UEFI firmware for ${emulator.path}; install ovmf (x86-64) or qemu-efi-aarch64`,
    );
  }
  return { kind: 'uefi', codePath: uefi.code, varsTemplate: uefi.vars };
}
