import { ImageError } from '../error.ts';
import { sniff } from '../sniff.ts';
import type { Budget } from './budget.ts';
import { ByteReader, type Bytes } from './byte-reader.ts';
import { decompress } from './decompress.ts';
import { checkDiskSize, type Sink } from './disk-sink.ts';
import type { FedProgram } from './fed-program.ts';
import { isOvf, maxOvfBytes, ovfDisks } from './ovf.ts';
import { type Compression, headBytes, packingOf } from './packing.ts';
import { type TarFile, tarFiles } from './tar.ts';
import { xzIsBusy } from './xz.ts';

/** What is searched for a disk, and what has been found. */
export interface Search {
  readonly sink: Sink;
  readonly budget: Budget;
  readonly maxBytes: number;
  /** The file of the archive that is wanted; undefined: the only disk. */
  readonly member: string | undefined;
  /** What decompresses the file itself, if that is compressed so. */
  readonly program?: FedProgram | undefined;
}

/** Files of the archive that are named in an error. */
const maxNamed = 10;
const maxNameLength = 100;

/**
 * Unpacks the disk of a stream into the sink: what it is packed in is recognised by the content at each level. Returns the
 * name of the archive's file that it is; undefined without an archive. Reads to the end. Throws ImageError.
 */
export async function findDisk(bytes: Bytes, search: Search): Promise<string | undefined> {
  const reader = new ByteReader(bytes);
  const found = await unpackStream(reader, search, 0);
  // The end of what is compressed, with its checksum, is behind the end of an archive.
  await reader.drain();
  return found;
}

async function unpackStream(
  reader: ByteReader,
  search: Search,
  depth: number,
): Promise<string | undefined> {
  search.budget.checkDepth(depth);
  const packing = packingOf(await reader.peek(headBytes));
  if (packing === 'tar') return new ArchiveSearch(search, depth).run(reader);
  if (packing !== 'none') {
    const { program, budget } = search;
    const bytes =
      depth === 0 && packing === program?.how
        ? program.through(reader.rest())
        : decompress(packing, reader.rest());
    const inner = new ByteReader(budget.counted(bytes));
    try {
      const found = await unpackStream(inner, search, depth + 1);
      await inner.drain();
      return found;
    } finally {
      await inner.close();
    }
  }
  if (search.member !== undefined) {
    throw new ImageError('member', `it is no archive, so it has no member ${search.member}`);
  }
  await storeStream(reader, search);
  return undefined;
}

async function storeStream(reader: ByteReader, { sink }: Search): Promise<void> {
  sink.begin();
  let at = 0;
  for await (const piece of reader.rest()) {
    // A hole is none of the bytes that are written.
    if (piece.buffer !== zeros.buffer) sink.write(at, piece);
    at += piece.length;
  }
  sink.end(at);
}

/** The disk of one archive. */
class ArchiveSearch {
  readonly #search: Search;
  readonly #depth: number;
  readonly #names: string[] = [];
  readonly #disks: string[] = [];
  #hasArchives = false;
  #member: string | undefined;
  #stored: string | undefined;

  constructor(search: Search, depth: number) {
    this.#search = search;
    this.#depth = depth;
    this.#member = search.member === undefined ? undefined : plainName(search.member);
  }

  async run(reader: ByteReader): Promise<string> {
    await this.#look(reader, { depth: this.#depth, isLayer: false });
    if (this.#member !== undefined && this.#stored !== this.#member) {
      throw wrongMember(`there is no file ${shown(this.#member)} in it`, this.#names);
    }
    if (this.#stored === undefined) throw this.#noDisk();
    if (this.#disks.length > 1) {
      throw wrongMember('there is more than one disk in it: name one as member', this.#disks);
    }
    return this.#stored;
  }

  #noDisk(): ImageError {
    const what = 'there is no disk in it';
    if (!this.#hasArchives) return new ImageError('refused', withNames(what, this.#names));
    const remedy =
      'outside of its archives and of /disk in layers of a container: name a file as member';
    return wrongMember(`${what} ${remedy}`, this.#names);
  }

  async #look(
    reader: ByteReader,
    place: { readonly depth: number; readonly isLayer: boolean },
  ): Promise<void> {
    const { budget } = this.#search;
    budget.checkDepth(place.depth);
    this.#hasArchives ||= place.isLayer;
    for await (const file of tarFiles(reader, () => budget.addMember())) {
      await this.#visit({ ...file, name: plainName(file.name) }, place);
    }
  }

  async #visit(
    file: TarFile,
    { depth, isLayer }: { readonly depth: number; readonly isLayer: boolean },
  ): Promise<void> {
    const { name } = file;
    if (this.#names.length < maxNamed) this.#names.push(name);
    const content = new ByteReader(flat(file, this.#search.maxBytes));
    if (name === this.#member) return this.#storeMember(file, content, depth);
    const head = Buffer.from(await content.peek(headBytes));
    const packing = packingOf(head);
    if (packing === 'tar') return this.#look(content, { depth: depth + 1, isLayer: true });
    if (packing === 'xz' && xzIsBusy()) return;
    if (packing !== 'none') return this.#lookIntoLayer(content, packing, depth);
    if (
      this.#search.member === undefined &&
      !isLayer &&
      file.fileBytes <= maxOvfBytes &&
      isOvf(head)
    ) {
      return this.#readOvf(await content.take(file.fileBytes));
    }
    if (this.#member !== undefined || !(isLayer ? isLayerDisk(name) : isDisk(file, head))) return;
    this.#disks.push(name);
    if (this.#stored === undefined) await this.#store(file, content);
  }

  /** A compressed file may be a layer of a container's image, whose disk is in /disk. Anything else in it is no disk. */
  async #lookIntoLayer(content: ByteReader, packing: Compression, depth: number): Promise<void> {
    const bytes = this.#search.budget.counted(decompress(packing, content.rest()));
    const layer = new ByteReader(bytes);
    try {
      if (packingOf(await layer.peek(headBytes)) !== 'tar') return;
      await this.#look(layer, { depth: depth + 2, isLayer: true });
      await layer.drain();
    } finally {
      await layer.close();
    }
  }

  async #storeMember(file: TarFile, content: ByteReader, depth: number): Promise<void> {
    const { name } = file;
    if (this.#stored === name)
      throw wrongMember(`there is more than one file ${shown(name)} in it`);
    this.#disks.splice(0, this.#disks.length, name);
    this.#stored = name;
    if (packingOf(await content.peek(headBytes)) === 'none') return this.#store(file, content);
    await unpackStream(content, { ...this.#search, member: undefined }, depth + 1);
  }

  async #store(file: TarFile, content: ByteReader): Promise<void> {
    this.#stored = file.name;
    checkDiskSize(file.fileBytes, this.#search.maxBytes);
    await storeStream(content, this.#search);
  }

  #readOvf(text: Uint8Array): void {
    const [disk, ...others] = ovfDisks(Buffer.from(text).toString('utf8')).map(plainName);
    // With several disks the job has to choose.
    if (disk === undefined || others.length > 0 || this.#stored === disk) return;
    this.#member = disk;
  }
}

const gapBytes = 256 * 1024;
const zeros = Buffer.alloc(gapBytes);

/** The content of a file with its holes as zeros. */
async function* flat(file: TarFile, maxBytes: number): AsyncGenerator<Uint8Array> {
  let end = 0;
  const gap = function* (to: number): Generator<Uint8Array> {
    while (end < to) {
      checkDiskSize(end, maxBytes);
      const piece = zeros.subarray(0, to - end);
      end += piece.length;
      yield piece;
    }
  };
  for await (const { at, bytes } of file.pieces) {
    yield* gap(at);
    end = at + bytes.length;
    yield bytes;
  }
  yield* gap(file.fileBytes);
}

/** A format with a mark, or whole sectors that are neither text nor a Linux kernel. */
function isDisk({ fileBytes }: TarFile, head: Buffer): boolean {
  const format = sniff(head);
  if (format !== 'raw') return format !== 'zip';
  const isKernel = head.toString('latin1', 0x202, 0x206) === 'HdrS';
  return fileBytes > 0 && fileBytes % 512 === 0 && head.includes(0) && !isKernel;
}

function isLayerDisk(name: string): boolean {
  return /^disk\/[^/]+$/.test(name);
}

/** A name without what is in front of its first directory. */
function plainName(name: string): string {
  return name.replace(/^(?:\.?\/+)+/, '');
}

function shown(name: string): string {
  const text = name.replace(/[^\x20-\x7e]/g, '?');
  return text.length > maxNameLength ? `${text.slice(0, maxNameLength)}…` : text;
}

function wrongMember(what: string, names: readonly string[] = []): ImageError {
  return new ImageError('member', withNames(what, names));
}

function withNames(what: string, names: readonly string[]): string {
  const list = names.slice(0, maxNamed).map(shown).join(', ');
  const more = names.length > maxNamed ? ` and ${names.length - maxNamed} more` : '';
  return list === '' ? what : `${what} (${list}${more})`;
}
