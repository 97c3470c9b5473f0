/** A reader of its own for disc images with one folder: what the writer's tests compare with. */

const SECTOR = 2048;

export interface Disc {
  readonly label: string;
  readonly sectors: number;
  readonly files: ReadonlyMap<string, Buffer>;
  /** 8.3 names in the order of their records; for Joliet the names themselves. */
  readonly identifiers: readonly string[];
}

/** Reads by the primary descriptor with Rock Ridge names, or by Joliet's. Throws when anything is out of place. */
export function readDisc(image: Uint8Array, tree: 'rock-ridge' | 'joliet'): Disc {
  const bytes = Buffer.from(image.buffer, image.byteOffset, image.byteLength);
  const joliet = tree === 'joliet';
  const descriptor = findDescriptor(bytes, joliet ? 2 : 1);
  const root = readRecord(descriptor.subarray(156, 190));
  const records = readFolder(
    bytes.subarray(root.sector * SECTOR, root.sector * SECTOR + root.bytes),
  );
  const files = records.slice(2);
  if (records[0]?.sector !== root.sector)
    throw new Error('the first record is not the folder itself');
  const label = descriptor.subarray(40, 72);
  return {
    label: (joliet ? utf16(label) : label.toString('latin1')).trimEnd(),
    sectors: both32(descriptor, 80),
    identifiers: files.map((it) =>
      joliet ? utf16(it.identifier) : it.identifier.toString('latin1'),
    ),
    files: new Map(
      files.map((it) => {
        const start = it.sector * SECTOR;
        if (start + it.bytes > bytes.length) throw new Error('a file lies beyond the image');
        const name = joliet ? utf16(it.identifier) : rockRidgeName(it.systemUse);
        return [name, bytes.subarray(start, start + it.bytes)];
      }),
    ),
  };
}

function findDescriptor(bytes: Buffer, type: number): Buffer {
  for (let sector = 16; ; sector++) {
    const descriptor = bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR);
    if (descriptor.toString('latin1', 1, 6) !== 'CD001') throw new Error('not a descriptor');
    if (descriptor[0] === type) return descriptor;
    if (descriptor[0] === 255) throw new Error(`no descriptor of type ${type}`);
  }
}

interface Entry {
  readonly sector: number;
  readonly bytes: number;
  readonly identifier: Buffer;
  readonly systemUse: Buffer;
}

function readRecord(record: Buffer): Entry {
  const length = record[32] ?? 0;
  const end = 33 + length + ((33 + length) % 2);
  return {
    sector: both32(record, 2),
    bytes: both32(record, 10),
    identifier: record.subarray(33, 33 + length),
    systemUse: record.subarray(end),
  };
}

function readFolder(folder: Buffer): Entry[] {
  const entries: Entry[] = [];
  for (let at = 0; at < folder.length; ) {
    const length = folder[at] ?? 0;
    if (length === 0) {
      at = (Math.floor(at / SECTOR) + 1) * SECTOR; // the rest of a sector is left empty
      continue;
    }
    if ((at % SECTOR) + length > SECTOR) throw new Error('a record crosses a sector');
    entries.push(readRecord(folder.subarray(at, at + length)));
    at += length;
  }
  return entries;
}

function rockRidgeName(systemUse: Buffer): string {
  for (let at = 0; at + 4 <= systemUse.length; at += systemUse[at + 2] ?? 0) {
    const length = systemUse[at + 2] ?? 0;
    if (length < 4) break;
    if (systemUse.toString('latin1', at, at + 2) === 'NM') {
      return systemUse.toString('latin1', at + 5, at + length);
    }
  }
  throw new Error('no Rock Ridge name');
}

/** A number written in both orders; they have to agree. */
function both32(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32LE(at);
  if (value !== bytes.readUInt32BE(at + 4)) throw new Error(`byte orders disagree at ${at}`);
  return value;
}

function utf16(bytes: Buffer): string {
  return Buffer.from(bytes).swap16().toString('utf16le');
}
