/** Numbers and records of ISO 9660 (ECMA-119), Rock Ridge (SUSP and RRIP 1991A) and Joliet. */

export const SECTOR = 2048;

export const sectors = (bytes: number): number => Math.ceil(bytes / SECTOR);

/** A number in both byte orders, as the standard writes nearly all of them. */
function both32(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(value, 0);
  bytes.writeUInt32BE(value, 4);
  return bytes;
}

function both16(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(value, 0);
  bytes.writeUInt16BE(value, 2);
  return bytes;
}

/** UCS-2, high byte first: Joliet's text. */
export function ucs2(text: string): Buffer {
  return Buffer.from(text, 'utf16le').swap16();
}

// 1 January 1970, UTC: the image depends on its files alone.
const date = Buffer.from([70, 1, 1, 0, 0, 0, 0]);

export interface Entry {
  /** File identifier as bytes: 0 and 1 stand for the folder itself and its parent. */
  readonly identifier: Uint8Array;
  readonly folder: boolean;
  readonly sector: number;
  readonly bytes: number;
  /** Rock Ridge fields; empty in a Joliet tree. */
  readonly systemUse: Uint8Array;
}

/** Directory record, ECMA-119 9.1. Its length is a byte, so 254 at most. */
export function directoryRecord(entry: Entry): Buffer {
  const named = 33 + entry.identifier.length;
  const padded = named + (named % 2);
  const length = padded + entry.systemUse.length + (entry.systemUse.length % 2);
  const record = Buffer.alloc(length);
  record[0] = length;
  both32(entry.sector).copy(record, 2);
  both32(entry.bytes).copy(record, 10);
  date.copy(record, 18);
  record[25] = entry.folder ? 2 : 0;
  both16(1).copy(record, 28); // volume sequence number
  record[32] = entry.identifier.length;
  record.set(entry.identifier, 33);
  record.set(entry.systemUse, padded);
  return record;
}

/** Records one after the other; none may cross into the next sector. */
export function directory(records: readonly Buffer[]): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (const record of records) {
    const left = SECTOR - (at % SECTOR);
    if (record.length > left) {
      parts.push(Buffer.alloc(left));
      at += left;
    }
    parts.push(record);
    at += record.length;
  }
  return Buffer.concat(parts, sectors(at) * SECTOR);
}

function susp(signature: string, ...data: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(data);
  return Buffer.concat([Buffer.from(signature, 'latin1'), Buffer.from([4 + body.length, 1]), body]);
}

/** PX: permissions. `mode` is st_mode. Owner and group are root. */
export function posixAttributes(mode: number, links: number): Buffer {
  return susp('PX', both32(mode), both32(links), both32(0), both32(0));
}

/** NM: the name as it was given. */
export function alternateName(name: string): Buffer {
  return susp('NM', Buffer.from([0]), Buffer.from(name, 'ascii'));
}

/** SP and ER, in the root's own record: they mark a volume with Rock Ridge fields. */
export function extensionMarks(): Buffer {
  const identifier = 'RRIP_1991A';
  return Buffer.concat([
    susp('SP', Buffer.from([0xbe, 0xef, 0])),
    susp('ER', Buffer.from([identifier.length, 0, 0, 1]), Buffer.from(identifier, 'ascii')),
  ]);
}

/** The path table of a volume whose only folder is its root. */
export function pathTable(rootSector: number, order: 'little' | 'big'): Buffer {
  const table = Buffer.alloc(10);
  table[0] = 1; // length of the root's identifier, which is one zero byte
  if (order === 'little') table.writeUInt32LE(rootSector, 2);
  else table.writeUInt32BE(rootSector, 2);
  if (order === 'little') table.writeUInt16LE(1, 6);
  else table.writeUInt16BE(1, 6);
  return table;
}

export interface Volume {
  readonly joliet: boolean;
  readonly label: string;
  readonly totalSectors: number;
  readonly pathTableSectors: { readonly little: number; readonly big: number };
  readonly rootSector: number;
  readonly rootBytes: number;
}

/** Primary volume descriptor, ECMA-119 8.4, or Joliet's supplementary one, 8.5. */
export function volumeDescriptor(volume: Volume): Buffer {
  const sector = Buffer.alloc(SECTOR);
  const text = (value: string, at: number, length: number): void => {
    const space = volume.joliet ? ucs2(' '.repeat(length / 2)) : Buffer.alloc(length, ' ');
    space.copy(sector, at);
    (volume.joliet ? ucs2(value) : Buffer.from(value, 'ascii')).copy(sector, at);
  };
  sector[0] = volume.joliet ? 2 : 1;
  sector.write('CD001', 1, 'latin1');
  sector[6] = 1;
  text('', 8, 32);
  text(volume.label, 40, 32);
  both32(volume.totalSectors).copy(sector, 80);
  if (volume.joliet) sector.write('%/E', 88, 'latin1'); // UCS-2 level 3
  both16(1).copy(sector, 120); // volume set size
  both16(1).copy(sector, 124); // volume sequence number
  both16(SECTOR).copy(sector, 128);
  both32(10).copy(sector, 132); // path table bytes
  sector.writeUInt32LE(volume.pathTableSectors.little, 140);
  sector.writeUInt32BE(volume.pathTableSectors.big, 148);
  const identifier = Buffer.from([0]);
  const { rootSector, rootBytes } = volume;
  directoryRecord({
    identifier,
    folder: true,
    sector: rootSector,
    bytes: rootBytes,
    systemUse: Buffer.alloc(0),
  }).copy(sector, 156);
  // Volume set, publisher, preparer, application (128 bytes each), three file names (37 each, odd: the last stays 0).
  for (const at of [190, 318, 446, 574]) text('', at, 128);
  for (const at of [702, 739, 776]) text('', at, 36);
  // Created, modified, expires, effective: sixteen zeros and an offset of zero mean "not specified".
  for (const at of [813, 830, 847, 864]) sector.write('0'.repeat(16), at, 'latin1');
  sector[881] = 1; // file structure version
  return sector;
}

export function terminator(): Buffer {
  const sector = Buffer.alloc(SECTOR);
  sector[0] = 255;
  sector.write('CD001', 1, 'latin1');
  sector[6] = 1;
  return sector;
}
