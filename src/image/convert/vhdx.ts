import { type ForeignFile, type ForeignInspection, refused, sizeOf } from './foreign-file.ts';

// MS-VHDX; QEMU's block/vhdx.c.
const KiB = 1024;
const MiB = 1024 * KiB;
const regionTables = [192 * KiB, 256 * KiB];
const regionTableBytes = 64 * KiB;
const maxRegions = 2047;
const maxItems = 2047;
const itemTableBytes = 64 * KiB;
const [minBlockBytes, maxBlockBytes] = [MiB, 256 * MiB];
/** Of the format: 64 TiB. */
const maxVirtualBytes = 64 * 2 ** 40;

/** GUIDs as they are in a file: the first three fields are little-endian. */
const metadataRegion = guid('8b7ca206-4790-4b9a-b8fe-575f050f886e');
const batRegion = guid('2dc27766-f623-4200-9d64-115e9bfd4a08');
const items = {
  fileParameters: guid('caa16737-fa36-4d43-b3b6-33f0aa44e76b'),
  virtualSize: guid('2fa54224-cd1b-4876-b211-5dbed83bf4b8'),
  pageEightyThree: guid('beca12ab-b2e6-4523-93ef-c309e000c746'),
  logicalSector: guid('8141bf1d-a96f-4709-ba47-f233a8faab5f'),
  physicalSector: guid('cda348c7-445d-4471-9cc9-e9885251c556'),
} as const;
const hasParent = 2;

interface Region {
  readonly offset: number;
  readonly bytes: number;
}

export async function inspectVhdx(file: ForeignFile): Promise<ForeignInspection> {
  const mark = await file.read(0, 8);
  if (mark.toString('latin1') !== 'vhdxfile') return refused('it has no vhdx mark');
  // QEMU takes the first region table that is intact; both have to be ones that pass.
  const found = await Promise.all(regionTables.map((offset) => findMetadata(file, offset)));
  const places = found.filter((region) => region !== undefined);
  const [first] = places;
  if (first === undefined) return refused('it has no region table with metadata in the file');
  if (places.some(({ offset }) => offset !== first.offset)) {
    return refused('its two region tables are different');
  }
  return inspectMetadata(file, first);
}

async function findMetadata(file: ForeignFile, offset: number): Promise<Region | undefined> {
  const table = await file.read(offset, regionTableBytes);
  if (table.length < regionTableBytes || table.toString('latin1', 0, 4) !== 'regi') {
    return undefined;
  }
  const count = table.readUInt32LE(8);
  if (count > maxRegions) return undefined;
  const regions = new Map<string, Region>();
  for (let at = 16, left = count; left > 0; at += 32, left -= 1) {
    const place = sizeOf(table.readBigUInt64LE(at + 16));
    const bytes = table.readUInt32LE(at + 24);
    if (!(place + bytes <= file.fileBytes)) return undefined;
    const kind = table.toString('hex', at, at + 16);
    // Of two regions of a kind it would depend on the program which one counts.
    if (regions.has(kind)) return undefined;
    regions.set(kind, { offset: place, bytes });
  }
  return regions.has(batRegion) ? regions.get(metadataRegion) : undefined;
}

async function inspectMetadata(file: ForeignFile, region: Region): Promise<ForeignInspection> {
  const table = await file.read(region.offset, itemTableBytes);
  if (table.length < itemTableBytes || table.toString('latin1', 0, 8) !== 'metadata') {
    return refused('it has no metadata table');
  }
  const count = table.readUInt16LE(10);
  if (count > maxItems) return refused(`its ${count} items of metadata are too many`);
  const values = new Map<string, Buffer>();
  for (let at = 32, left = count; left > 0; at += 32, left -= 1) {
    const kind = table.toString('hex', at, at + 16);
    if (!Object.values<string>(items).includes(kind)) {
      return refused('it has metadata other than that of a plain disk, such as a parent locator');
    }
    if (values.has(kind)) return refused('it has an item of metadata twice');
    const [offset, bytes] = [table.readUInt32LE(at + 16), table.readUInt32LE(at + 20)];
    if (offset < itemTableBytes || offset + bytes > region.bytes) {
      return refused('an item of its metadata lies outside its region');
    }
    values.set(kind, await file.read(region.offset + offset, 8));
  }
  return inspectValues(values);
}

function inspectValues(values: ReadonlyMap<string, Buffer>): ForeignInspection {
  const parameters = values.get(items.fileParameters) ?? Buffer.alloc(0);
  const size = values.get(items.virtualSize) ?? Buffer.alloc(0);
  const sector = values.get(items.logicalSector) ?? Buffer.alloc(0);
  if (parameters.length < 8 || size.length < 8 || sector.length < 4) {
    return refused('its metadata is incomplete');
  }
  const problems: string[] = [];
  const blockBytes = parameters.readUInt32LE(0);
  if (blockBytes < minBlockBytes || blockBytes > maxBlockBytes || blockBytes % MiB !== 0) {
    problems.push(`its blocks of ${blockBytes} bytes have an invalid size`);
  }
  if ((parameters.readUInt32LE(4) & hasParent) !== 0) problems.push('it is based on another image');
  if (sector.readUInt32LE(0) !== 512) problems.push('its sectors do not have 512 bytes');
  const virtualBytes = sizeOf(size.readBigUInt64LE(0));
  if (virtualBytes > maxVirtualBytes) problems.push('its virtual size is more than 64 TiB');
  return { virtualBytes, problems };
}

function guid(text: string): string {
  const [a = '', b = '', c = '', d = '', e = ''] = text.split('-');
  const reversed = [a, b, c].map((field) => Buffer.from(field, 'hex').reverse().toString('hex'));
  return [...reversed, d, e].join('');
}
