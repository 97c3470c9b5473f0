import type { FatName } from './names.ts';

/** Records of FAT16 with long names, as in Microsoft's specification of 2000. All numbers are little-endian. */

export const SECTOR = 512;
export const recordBytes = 32;

const charsOfRecord = 13;
const lastRecord = 0x40;
const attributes = { label: 0x08, folder: 0x10, file: 0x20, longName: 0x0f } as const;
/** Where a record of a long name has its characters. */
const charPlaces = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/** How many records a name takes. */
export function recordCount({ long }: FatName): number {
  return 1 + Math.ceil((long?.length ?? 0) / charsOfRecord);
}

export interface RecordOf {
  readonly kind: 'file' | 'folder';
  readonly cluster: number;
  /** 0 for a folder. */
  readonly bytes: number;
  readonly modifiedMs: number;
}

/** The records of a file or a folder: those of its long name, the last part first, and its own. */
export function entryRecords(name: FatName, entry: RecordOf): Buffer {
  return Buffer.concat([longRecords(name), shortRecord(name.short, entry)]);
}

/** `.` and `..` of a folder. */
export function dotRecords(own: RecordOf, parent: RecordOf): Buffer {
  return Buffer.concat([
    shortRecord('.'.padEnd(11), own),
    shortRecord('..'.padEnd(11), { ...parent, modifiedMs: own.modifiedMs }),
  ]);
}

/** The disk's label, a record of the root. */
export function labelRecord(label: string): Buffer {
  const record = Buffer.alloc(recordBytes);
  record.write(label.padEnd(11), 0, 'latin1');
  record[11] = attributes.label;
  writeTime(record, 0);
  return record;
}

/** In one piece: a directory may have tens of thousands of them. */
function longRecords({ short, long }: FatName): Buffer {
  if (long === undefined) return Buffer.alloc(0);
  const checksum = checksumOf(short);
  const count = Math.ceil(long.length / charsOfRecord);
  const records = Buffer.alloc(count * recordBytes);
  for (let index = 0; index < count; index += 1) {
    const number = count - index;
    const first = (number - 1) * charsOfRecord;
    const start = index * recordBytes;
    records[start] = number | (index === 0 ? lastRecord : 0);
    for (let at = 0; at < charsOfRecord; at += 1) {
      const from = first + at;
      // A zero ends a name that does not fill its records.
      const code = from < long.length ? long.charCodeAt(from) : from === long.length ? 0 : 0xffff;
      records.writeUInt16LE(code, start + (charPlaces[at] ?? 0));
    }
    records[start + 11] = attributes.longName;
    records[start + 13] = checksum;
  }
  return records;
}

function checksumOf(short: string): number {
  let sum = 0;
  for (const byte of Buffer.from(short, 'latin1')) {
    sum = (((sum & 1) << 7) + (sum >> 1) + byte) & 0xff;
  }
  return sum;
}

function shortRecord(short: string, { kind, cluster, bytes, modifiedMs }: RecordOf): Buffer {
  const record = Buffer.alloc(recordBytes);
  record.write(short, 0, 'latin1');
  record[11] = attributes[kind];
  writeTime(record, modifiedMs);
  record.writeUInt16LE(cluster, 26);
  record.writeUInt32LE(bytes, 28);
  return record;
}

/** FAT counts in steps of two seconds from 1980 to 2107. UTC, which guests take for the local time. */
function writeTime(record: Buffer, modifiedMs: number): void {
  const date = new Date(modifiedMs);
  const year = date.getUTCFullYear();
  const isKnown = year >= 1980 && year <= 2107;
  const day = isKnown
    ? ((year - 1980) << 9) | ((date.getUTCMonth() + 1) << 5) | date.getUTCDate()
    : (1 << 5) | 1;
  const time = isKnown
    ? (date.getUTCHours() << 11) | (date.getUTCMinutes() << 5) | (date.getUTCSeconds() >> 1)
    : 0;
  record.writeUInt16LE(time, 14);
  record.writeUInt16LE(day, 16);
  record.writeUInt16LE(day, 18);
  record.writeUInt16LE(time, 22);
  record.writeUInt16LE(day, 24);
}
