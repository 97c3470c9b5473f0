/** The format of a file by its first bytes. `raw` is everything without a mark, ISO 9660 included. */
export type FileFormat =
  | 'raw'
  | 'qcow2'
  | 'vmdk'
  | 'vhdx'
  | 'vpc'
  | 'vdi'
  | 'qed'
  | 'luks'
  | 'parallels'
  | 'gzip'
  | 'xz'
  | 'zstd'
  | 'bzip2'
  | 'zip'
  | 'tar';

/** Bytes from the start of a file that `sniff` needs; fewer for a shorter file. */
export const sniffBytes = 4096;

/** Recognises a format by its mark. QEMU is always given the format and never probes for it. */
export function sniff(head: Uint8Array): FileFormat {
  const found = marks.find(([, at, mark]) => hasBytes(head, at, mark));
  if (found !== undefined) return found[0];
  if (isOldTar(head)) return 'tar';
  return isVmdkDescriptor(head) ? 'vmdk' : 'raw';
}

/** Why a format is refused, as the end of a sentence about the file; undefined for the two that are supported. */
export function refusalOf(format: FileFormat): string | undefined {
  switch (format) {
    case 'raw':
    case 'qcow2':
      return undefined;
    case 'gzip':
    case 'xz':
    case 'zstd':
    case 'bzip2':
      return `it is ${format}-compressed, which no emulator reads; unpack it first with: ${unpackers[format]}`;
    case 'zip':
    case 'tar':
      return `it is a ${format} archive, which no emulator reads; unpack it first with: ${unpackers[format]}`;
    case 'luks':
      return 'it is LUKS-encrypted, which is not supported; decrypt it into a raw or qcow2 image first';
    case 'vmdk':
    case 'vhdx':
    case 'vpc':
    case 'vdi':
    case 'qed':
    case 'parallels':
      return `its format is ${format}, which may refer to other files, so that no emulator gets it; convert it with: qemu-img convert -f ${format} -O qcow2 IMAGE IMAGE.qcow2`;
    default:
      return format satisfies never;
  }
}

const unpackers = {
  gzip: 'gunzip IMAGE',
  xz: 'unxz IMAGE',
  zstd: 'unzstd IMAGE',
  bzip2: 'bunzip2 IMAGE',
  zip: 'unzip IMAGE',
  tar: 'tar -xf IMAGE',
} as const;

// Marks as QEMU's own drivers (block/*.c, the probe functions) and file(1) know them.
const marks: readonly (readonly [FileFormat, number, readonly number[]])[] = [
  ['qcow2', 0, [0x51, 0x46, 0x49, 0xfb]],
  ['vmdk', 0, ascii('KDMV')],
  ['vmdk', 0, ascii('COWD')],
  ['vhdx', 0, ascii('vhdxfile')],
  ['vpc', 0, ascii('conectix')],
  ['vdi', 0x40, [0x7f, 0x10, 0xda, 0xbe]],
  ['qed', 0, ascii('QED\0')],
  ['luks', 0, [...ascii('LUKS'), 0xba, 0xbe]],
  ['parallels', 0, ascii('WithoutFreeSpace')],
  ['parallels', 0, ascii('WithouFreSpacExt')],
  ['gzip', 0, [0x1f, 0x8b, 0x08]],
  ['xz', 0, [0xfd, ...ascii('7zXZ'), 0x00]],
  ['zstd', 0, [0x28, 0xb5, 0x2f, 0xfd]],
  ['bzip2', 0, ascii('BZh')],
  ['zip', 0, ascii('PK\x03\x04')],
  ['tar', 257, ascii('ustar')],
];

function ascii(text: string): readonly number[] {
  return [...text].map((character) => character.charCodeAt(0));
}

function hasBytes(head: Uint8Array, at: number, mark: readonly number[]): boolean {
  return mark.every((byte, index) => head[at + index] === byte);
}

const checksumAt = [148, 156] as const;

/** The header of the first tar programs has no mark, but a checksum: the sum of its bytes, with blanks in its own place. */
function isOldTar(head: Uint8Array): boolean {
  const header = Buffer.from(head.subarray(0, 512));
  const [, digits] = /^ *([0-7]{1,7})[ \0]/.exec(header.toString('latin1', ...checksumAt)) ?? [];
  if (header.length < 512 || header[0] === 0 || digits === undefined) return false;
  const sum = header.fill(' ', ...checksumAt).reduce((total, byte) => total + byte, 0);
  return sum === Number.parseInt(digits, 8);
}

// A VMDK may be plain text that lists files. QEMU recognises any text whose first line that is neither empty nor a
// comment begins with `version=` (vmdk_probe).
function isVmdkDescriptor(head: Uint8Array): boolean {
  const text = new TextDecoder('latin1').decode(head);
  if (/^\s*#\s*Disk DescriptorFile/i.test(text)) return true;
  return /^(?:[ \t]*(?:#[^\n]*|\r?)\n)*version\s*=\s*\d/i.test(text);
}
