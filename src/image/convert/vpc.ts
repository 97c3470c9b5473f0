import { type ForeignFile, type ForeignInspection, refused, sizeOf } from './foreign-file.ts';

// The Virtual Hard Disk format specification; VHDFooter and VHDDynDiskHeader in QEMU's block/vpc.c.
const footerBytes = 512;
const dynamicBytes = 1024;
const cookie = 'conectix';
const kinds = { fixed: 2, dynamic: 3, differencing: 4 } as const;
/** The largest geometry, which stands for every larger size. */
const maxGeometry = 65535 * 16 * 255;
const maxTableEntries = 0x20_0000;
const [minBlockBytes, maxBlockBytes] = [512 * 1024, 256 * 1024 * 1024];

export async function inspectVpc(file: ForeignFile): Promise<ForeignInspection> {
  const footer = await findFooter(file);
  if (footer === undefined) return refused('it has no vhd footer');
  const version = footer.readUInt32BE(0x0c);
  if (version !== 0x0001_0000) return refused(`its vhd version is 0x${version.toString(16)}`);
  const kind = footer.readUInt32BE(0x3c);
  const currentBytes = sizeOf(footer.readBigUInt64BE(0x30));
  // QEMU takes the size from the one or the other, by the program that made the image.
  const sectors = footer.readUInt16BE(0x38) * footer.readUInt8(0x3a) * footer.readUInt8(0x3b);
  const virtualBytes =
    sectors === maxGeometry ? currentBytes : Math.max(currentBytes, sectors * 512);
  if (kind === kinds.differencing) return refused('it is based on another image');
  if (kind === kinds.fixed) return { virtualBytes, problems: fixedProblems(currentBytes, file) };
  if (kind !== kinds.dynamic) return refused(`its type ${kind} is neither fixed nor dynamic`);
  const offset = sizeOf(footer.readBigUInt64BE(0x10));
  return { virtualBytes, problems: await dynamicProblems(offset, currentBytes, file) };
}

/** A dynamic image has a copy of the footer at its start, which QEMU reads first. */
async function findFooter({ read, fileBytes }: ForeignFile): Promise<Buffer | undefined> {
  for (const offset of [0, fileBytes - footerBytes]) {
    if (offset < 0) return undefined;
    const footer = await read(offset, footerBytes);
    if (footer.length < footerBytes) return undefined;
    if (footer.toString('latin1', 0, cookie.length) === cookie) return footer;
  }
  return undefined;
}

function fixedProblems(bytes: number, { fileBytes }: ForeignFile): readonly string[] {
  return bytes > fileBytes - footerBytes ? ['it is shorter than the disk that it states'] : [];
}

async function dynamicProblems(
  offset: number,
  currentBytes: number,
  { read, fileBytes }: ForeignFile,
): Promise<readonly string[]> {
  if (!(offset >= footerBytes && offset + dynamicBytes <= fileBytes)) {
    return ['its dynamic header lies outside the file'];
  }
  const header = await read(offset, dynamicBytes);
  if (header.length < dynamicBytes || header.toString('latin1', 0, 8) !== 'cxsparse') {
    return ['it has no dynamic header'];
  }
  const entries = header.readUInt32BE(0x1c);
  const blockBytes = header.readUInt32BE(0x20);
  const table = sizeOf(header.readBigUInt64BE(0x10));
  const problems: string[] = [];
  // UUID and time of the parent, its name, and the places where it may be found.
  const parent = [header.subarray(0x28, 0x3c), header.subarray(0x40, 0x300)];
  if (parent.some((part) => part.some((byte) => byte !== 0))) {
    problems.push('it names another image that it is based on');
  }
  if (blockBytes < minBlockBytes || blockBytes > maxBlockBytes || !isPowerOf2(blockBytes)) {
    problems.push(`its blocks of ${blockBytes} bytes have an invalid size`);
  }
  if (entries > maxTableEntries || !(entries * blockBytes >= currentBytes)) {
    problems.push(`its block table of ${entries} entries does not match its size`);
  }
  if (!(table + 4 * entries <= fileBytes)) problems.push('its block table lies outside the file');
  return problems;
}

function isPowerOf2(number: number): boolean {
  return number > 0 && Number.isInteger(Math.log2(number));
}
