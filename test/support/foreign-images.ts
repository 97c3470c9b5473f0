/** The smallest images of foreign formats that pass the gates, by the specifications; `change` makes hostile ones of them. */

export const diskBytes = 16 * 2 ** 20;

const sector = 512;
const MiB = 2 ** 20;

export interface VmdkOptions {
  readonly descriptor?: string;
  readonly footer?: boolean;
}

export const vmdkDescriptor = [
  '# Disk DescriptorFile',
  'version=1',
  'CID=12345678',
  'parentCID=ffffffff',
  'createType="monolithicSparse"',
  '',
  '# Extent description',
  `RW ${diskBytes / sector} SPARSE "disk.vmdk"`,
  '',
].join('\n');

export function vmdk({ descriptor = vmdkDescriptor, footer = false }: VmdkOptions = {}): Buffer {
  const file = Buffer.alloc(256 * sector);
  const header = file.subarray(0, sector);
  header.write('KDMV', 0);
  header.writeUInt32LE(footer ? 3 : 1, 4);
  header.writeUInt32LE(3, 8);
  header.writeBigUInt64LE(BigInt(diskBytes / sector), 12);
  header.writeBigUInt64LE(128n, 20);
  header.writeBigUInt64LE(1n, 28);
  header.writeBigUInt64LE(20n, 36);
  header.writeUInt32LE(512, 44);
  header.writeBigUInt64LE(21n, 56);
  header.writeBigUInt64LE(128n, 64);
  file.write(descriptor, sector);
  if (footer) {
    header.copy(file, file.length - 2 * sector);
    header.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, 56);
  }
  return file;
}

export function vdi(): Buffer {
  const blocks = diskBytes / MiB;
  const file = Buffer.alloc(2 * MiB);
  file.write('<<< QEMU VM Virtual Disk Image >>>\n', 0);
  file.writeUInt32LE(0xbeda107f, 0x40);
  file.writeUInt32LE(0x00010001, 0x44);
  file.writeUInt32LE(0x180, 0x48);
  file.writeUInt32LE(1, 0x4c);
  file.writeUInt32LE(0x200, 0x154);
  file.writeUInt32LE(0x400, 0x158);
  file.writeUInt32LE(sector, 0x168);
  file.writeBigUInt64LE(BigInt(diskBytes), 0x170);
  file.writeUInt32LE(MiB, 0x178);
  file.writeUInt32LE(blocks, 0x180);
  file.fill(0xff, 0x200, 0x200 + 4 * blocks);
  return file;
}

/** `kind`: 2 fixed, 3 dynamic, 4 differencing. */
export function vpc(kind = 3): Buffer {
  const footer = Buffer.alloc(sector);
  footer.write('conectix', 0);
  footer.writeUInt32BE(2, 8);
  footer.writeUInt32BE(0x00010000, 0x0c);
  footer.writeBigUInt64BE(kind === 2 ? 0xffff_ffff_ffff_ffffn : 512n, 0x10);
  footer.write('win ', 0x1c);
  footer.writeBigUInt64BE(BigInt(diskBytes), 0x28);
  footer.writeBigUInt64BE(BigInt(diskBytes), 0x30);
  footer.writeUInt16BE(481, 0x38);
  footer.writeUInt8(4, 0x3a);
  footer.writeUInt8(17, 0x3b);
  footer.writeUInt32BE(kind, 0x3c);
  footer.writeUInt32BE(~footer.reduce((sum, byte) => sum + byte, 0) >>> 0, 0x40);
  if (kind === 2) return Buffer.concat([Buffer.alloc(diskBytes), footer]);
  const header = Buffer.alloc(1024);
  header.write('cxsparse', 0);
  header.fill(0xff, 8, 16);
  header.writeBigUInt64BE(1536n, 0x10);
  header.writeUInt32BE(0x00010000, 0x18);
  header.writeUInt32BE(diskBytes / (2 * MiB), 0x1c);
  header.writeUInt32BE(2 * MiB, 0x20);
  header.writeUInt32BE(~header.reduce((sum, byte) => sum + byte, 0) >>> 0, 0x24);
  return Buffer.concat([footer, header, Buffer.alloc(sector, 0xff), footer]);
}

const vhdxItems: readonly (readonly [string, Buffer])[] = [
  ['3767a1ca36fa434db3b633f0aa44e76b', pair(MiB, 0)],
  ['2442a52f1bcd7648b2115dbed83bf4b8', wide(BigInt(diskBytes))],
  ['ab12cabee6b2234593efc309e000c746', Buffer.alloc(16, 7)],
  ['1dbf41816fa90947ba47f233a8faab5f', pair(sector, 0)],
  ['c748a3cd5d4471449cc9e9885251c556', pair(sector, 0)],
];

/** A vhdx up to its metadata, which is as far as the gate reads. */
export function vhdx(items: readonly (readonly [string, Buffer])[] = vhdxItems): Buffer {
  const file = Buffer.alloc(4 * MiB);
  file.write('vhdxfile', 0);
  for (const at of [192 * 1024, 256 * 1024]) {
    file.write('regi', at);
    file.writeUInt32LE(2, at + 8);
    region(file, at + 16, '6677c22d23f600429d64115e9bfd4a08', [3 * MiB, MiB]);
    region(file, at + 48, '06a27c8b90479a4bb8fe575f050f886e', [2 * MiB, MiB]);
  }
  const metadata = file.subarray(2 * MiB, 3 * MiB);
  metadata.write('metadata', 0);
  metadata.writeUInt16LE(items.length, 10);
  for (const [index, [guid, value]] of items.entries()) {
    const at = 32 + 32 * index;
    const offset = 64 * 1024 + 64 * index;
    metadata.write(guid, at, 'hex');
    metadata.writeUInt32LE(offset, at + 16);
    metadata.writeUInt32LE(value.length, at + 20);
    value.copy(metadata, offset);
  }
  return file;
}

export { vhdxItems };

function region(
  file: Buffer,
  at: number,
  guid: string,
  [offset, bytes]: readonly [number, number],
) {
  file.write(guid, at, 'hex');
  file.writeBigUInt64LE(BigInt(offset), at + 16);
  file.writeUInt32LE(bytes, at + 24);
  file.writeUInt32LE(1, at + 28);
}

export function pair(first: number, second: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(first, 0);
  bytes.writeUInt32LE(second, 4);
  return bytes;
}

export function wide(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value, 0);
  return bytes;
}
