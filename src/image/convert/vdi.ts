import { type ForeignFile, type ForeignInspection, refused, sizeOf } from './foreign-file.ts';

// VdiHeader in QEMU's block/vdi.c.
const headerBytes = 512;
const magic = 0xbeda107f;
const version = 0x00010001;
const blockBytes = 1024 * 1024;
/** What QEMU accepts as size of the block map, and the driver as size of the disk: 8 TiB. */
const maxBlocks = 0x80_0000;

export async function inspectVdi({ read, fileBytes }: ForeignFile): Promise<ForeignInspection> {
  const header = await read(0, headerBytes);
  if (header.length < headerBytes || header.readUInt32LE(0x40) !== magic) {
    return refused('it has no complete vdi header');
  }
  const found = header.readUInt32LE(0x44);
  if (found !== version) return refused(`its vdi version is 0x${found.toString(16)}, not 1.1`);
  const virtualBytes = sizeOf(header.readBigUInt64LE(0x170));
  const type = header.readUInt32LE(0x4c);
  const problems: string[] = [];
  if (type !== 1 && type !== 2) problems.push(`its type ${type} is neither dynamic nor fixed`);
  // The images that this one was made from, as the last snapshot's and the parent's UUID.
  if (header.subarray(0x1a8, 0x1c8).some((byte) => byte !== 0)) {
    problems.push('it is based on another image');
  }
  if (header.readUInt32LE(0x168) !== 512) problems.push('its sectors do not have 512 bytes');
  if (header.readUInt32LE(0x178) !== blockBytes) problems.push('its blocks do not have 1 MiB');
  if (header.readUInt32LE(0x17c) !== 0) problems.push('its blocks have extra data');
  const blocks = header.readUInt32LE(0x180);
  if (blocks > maxBlocks || blocks < Math.ceil(virtualBytes / blockBytes)) {
    problems.push(`its block map of ${blocks} entries does not match its size`);
  }
  if (header.readUInt32LE(0x154) + 4 * blocks > fileBytes) {
    problems.push('its block map lies outside the file');
  }
  return { virtualBytes, problems };
}
