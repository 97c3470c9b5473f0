import { ImageError } from '../error.ts';
import { type ByteReader, truncated } from './byte-reader.ts';
import {
  checkMap,
  type Extent,
  gnuFileBytes,
  paxExtents,
  readGnuMap,
  readPaxMap,
} from './sparse-map.ts';
import { decodeHeader, paxRecords, type TarHeader } from './tar-header.ts';
import { decimal, tarNumber } from './tar-number.ts';

/** Bytes of a file and where they are in it. */
export interface Piece {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** A regular file of an archive. Its content is gone when the next file is asked for. */
export interface TarFile {
  readonly name: string;
  /** Holes included. */
  readonly fileBytes: number;
  /** What is not a hole, in its order. It can be read once, up to any place. */
  readonly pieces: AsyncGenerator<Piece, void, undefined>;
}

const blockBytes = 512;
const maxExtendedBytes = 1024 * 1024;
const maxExtendedHeaders = 8;
const maxNameBytes = 4096;
/** Of headers: extended ones of a file (x) or of all (g), and long names of links (K) and files (L). */
const extendedTypes = new Set([...'xgKL'].map((type) => type.charCodeAt(0)));
const sparseType = 'S'.charCodeAt(0);
const globalType = 'g'.charCodeAt(0);
const paxType = 'x'.charCodeAt(0);

/** The regular files of a tar archive. Links, devices and whatever else is in it is passed over. Throws ImageError. */
export async function* tarFiles(
  reader: ByteReader,
  onMember: () => void,
): AsyncGenerator<TarFile, void, undefined> {
  for (;;) {
    const blocks = await readHeaderBlocks(reader, onMember);
    if (blocks === undefined) return;
    yield* fileOf(blocks, reader);
  }
}

interface Blocks {
  readonly all: readonly Uint8Array[];
  readonly header: Uint8Array;
  readonly records: readonly (readonly [string, string])[];
}

/** All blocks up to a file's content; undefined at the mark of the end. */
async function readHeaderBlocks(
  reader: ByteReader,
  onMember: () => void,
): Promise<Blocks | undefined> {
  const all: Uint8Array[] = [];
  const records: (readonly [string, string])[] = [];
  for (let count = 0; count <= maxExtendedHeaders; count += 1) {
    onMember();
    const header = Buffer.from(await reader.take(blockBytes));
    if (header.every((byte) => byte === 0)) {
      if (count > 0) throw truncated();
      return undefined;
    }
    const type = header[156] ?? 0;
    if (!extendedTypes.has(type)) return { all: [...all, header], header, records };
    const content = await readExtended(header, reader);
    // What is stated for all files of an archive is never about a disk's content.
    if (type === globalType) continue;
    if (type === paxType) records.push(...paxRecords(content));
    all.push(header);
    if (content.length > 0) all.push(content);
  }
  throw new ImageError('refused', 'a file in the archive has too many extended headers');
}

/** The content of an extended header, up to the next block. */
async function readExtended(header: Uint8Array, reader: ByteReader): Promise<Uint8Array> {
  const storedBytes = tarNumber(header.subarray(124, 136));
  if (storedBytes > maxExtendedBytes) {
    throw new ImageError(
      'refused',
      `a header in the archive has ${storedBytes} bytes, more than ${maxExtendedBytes}`,
    );
  }
  return Buffer.from(await reader.take(padded(storedBytes)));
}

async function* fileOf(blocks: Blocks, reader: ByteReader): AsyncGenerator<TarFile> {
  const header = await decodeHeader(blocks.all);
  const isSparse = blocks.header[156] === sparseType;
  const pax = new Map(blocks.records);
  const name = pax.get('GNU.sparse.name') ?? header.name;
  if (Buffer.byteLength(name) > maxNameBytes) {
    throw new ImageError('refused', `a name in the archive has more than ${maxNameBytes} bytes`);
  }
  // A hard link may state the size of its file, whose content is not stored again.
  const storedBytes = header.isHardLink ? 0 : header.storedBytes;
  if (!isSparse && !header.isFile) return reader.skip(padded(storedBytes));
  if (header.isDirectory) return reader.skip(padded(storedBytes));
  const layout = isSparse
    ? await gnuLayout(blocks.header, storedBytes, reader)
    : await paxLayout(pax, blocks.records, header, reader);
  const content = new Content(reader, layout);
  yield { name, fileBytes: layout.fileBytes, pieces: content.pieces() };
  await content.skip();
  await reader.skip(padded(storedBytes) - storedBytes);
}

interface Layout {
  readonly fileBytes: number;
  readonly extents: readonly Extent[];
}

async function gnuLayout(
  header: Uint8Array,
  storedBytes: number,
  reader: ByteReader,
): Promise<Layout> {
  const fileBytes = gnuFileBytes(header);
  const extents = await readGnuMap(header, reader);
  return { fileBytes, extents: checkMap(extents, fileBytes, storedBytes) };
}

async function paxLayout(
  pax: ReadonlyMap<string, string>,
  records: Blocks['records'],
  { storedBytes }: TarHeader,
  reader: ByteReader,
): Promise<Layout> {
  const size = pax.get('GNU.sparse.realsize') ?? pax.get('GNU.sparse.size');
  if (size === undefined) {
    return { fileBytes: storedBytes, extents: [{ offset: 0, length: storedBytes }] };
  }
  const fileBytes = decimal(size);
  const version = `${pax.get('GNU.sparse.major') ?? 0}.${pax.get('GNU.sparse.minor') ?? 0}`;
  if (version === '1.0') {
    const { extents, mapBytes } = await readPaxMap(reader, storedBytes);
    return { fileBytes, extents: checkMap(extents, fileBytes, storedBytes - mapBytes) };
  }
  if (version !== '0.0' && version !== '0.1') {
    throw new ImageError('refused', 'a sparse file in the archive is of a format that is unknown');
  }
  return { fileBytes, extents: checkMap(paxExtents(records), fileBytes, storedBytes) };
}

/** What is stored of one file. */
class Content {
  readonly #reader: ByteReader;
  readonly #extents: readonly Extent[];
  #left: number;

  constructor(reader: ByteReader, { extents }: Layout) {
    this.#reader = reader;
    this.#extents = extents;
    this.#left = extents.reduce((sum, { length }) => sum + length, 0);
  }

  async *pieces(): AsyncGenerator<Piece, void, undefined> {
    for (const { offset, length } of this.#extents) {
      for (let done = 0; done < length; ) {
        const bytes = await this.#reader.some(length - done);
        if (bytes.length === 0) throw truncated();
        this.#left -= bytes.length;
        yield { at: offset + done, bytes };
        done += bytes.length;
      }
    }
  }

  async skip(): Promise<void> {
    await this.#reader.skip(this.#left);
    this.#left = 0;
  }
}

function padded(bytes: number): number {
  return Math.ceil(bytes / blockBytes) * blockBytes;
}
