import { quoted } from '#spec';
import { OptionText } from './option-text.ts';
import { globalTuning } from './tuning-keys.ts';
import { type OptionKind, Refusal, type Wish } from './wish.ts';

/** The firmware, and settings of what is beside it on the board. */
export const firmwareOptions: readonly OptionKind[] = [
  {
    names: ['bios'],
    value: '/usr/share/OVMF/OVMF_CODE.fd',
    becomes:
      'UEFI of the host, where the file is OVMF or AAVMF, and no effect where it is SeaBIOS (`bios-256k.bin`); the file itself is not used. Others are refused.',
    read: (value) => readFirmware(value),
  },
  {
    names: ['pflash'],
    value: 'OVMF_CODE.fd',
    becomes: 'As `-drive if=pflash`.',
    read: (value) => readFlash(value),
  },
  {
    names: ['global'],
    value: 'ICH9-LPC.disable_s3=1',
    becomes:
      'No effect for `cfi.pflash01.secure`, `isa-debugcon.iobase`, `lost_tick_policy` of a clock, `disable_s3` or `disable_s4` of a machine and the memory of a graphics card; others are refused.',
    read: readGlobal,
  },
];

/** The driver has its own copies of the host's firmware, with variables of each VM. */
function readFirmware(file: string): readonly Wish[] {
  if (/(^|\/)(sea)?bios(-256k|-microvm)?\.bin$/.test(file)) return [];
  if (isFirmware(file)) return [{ kind: 'uefi' }];
  throw new Refusal(otherFirmware(file));
}

/** A flash memory has firmware, by its file's name, or the variables of one, which may have any name. */
export function readFlash(file: string): readonly Wish[] {
  return [isFirmware(file) ? { kind: 'uefi' } : { kind: 'uefi-variables', file }];
}

export function otherFirmware(file: string): string {
  return `${quoted(file)}: the firmware is the host's; use firmware = "uefi" or "bios"`;
}

function isFirmware(file: string): boolean {
  if (/vars?[^/]*$/i.test(file)) return false;
  const isNamed = /(ovmf|aavmf|edk2|efi|flash0)[^/]*\.(fd|bin|img|raw|qcow2)$/i.test(file);
  return isNamed || /\/(OVMF|AAVMF|edk2)\//.test(file);
}

function readGlobal(value: string): readonly Wish[] {
  const option = new OptionText(value);
  const [driver, property] = [option.take('driver'), option.take('property')];
  option.ignore('value');
  const names = driver === undefined ? option.rest : [`${driver}.${property ?? ''}`];
  const [other] = names.filter((name) => !globalTuning.some((known) => known.test(name)));
  if (other === undefined) return [];
  throw new Refusal(`${quoted(other)} is not supported; leave it out`);
}
