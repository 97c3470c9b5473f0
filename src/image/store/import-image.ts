import { constants } from 'node:fs';
import { chmod, chown, rename } from 'node:fs/promises';
import { closeAside, createFile, openAside, startWriteBack, statAside } from '#host';
import { type DiskFormat, type ForeignFormat, type Waiting, wholeSectors } from '#spec';
import { type Converter, convert } from '../convert/convert.ts';
import { ImageError } from '../error.ts';
import { isPacked } from '../import/packing.ts';
import { unpack } from '../import/unpack.ts';
import { checkDiskFile } from '../open-image.ts';
import { readAt } from '../positional.ts';
import { sniffBytes } from '../sniff.ts';
import type { NamedFile } from './checksums.ts';
import { digest } from './digest.ts';
import type { Draft } from './draft.ts';
import type { Stored } from './entry.ts';
import { inspectCopy } from './inspect-copy.ts';

const MiB = 1024 * 1024;
const writeBackMs = 50;

export interface ImportRequest {
  /** Stays its caller's. */
  readonly file: NamedFile;
  /** Which file of an archive; undefined: the only one that is a disk. */
  readonly member?: string | undefined;
  /** Format of the disk, inside of what it is packed in. undefined: recognised by the content. */
  readonly format?: DiskFormat | ForeignFormat | undefined;
  /** Format that is wanted; undefined: the disk's own where QEMU gets it, else raw. */
  readonly to?: DiskFormat | undefined;
  readonly maxVirtualBytes: number;
  readonly converter: Converter;
}

export interface ImportProgress {
  readonly step: 'checking' | 'copying' | 'unpacking' | 'converting';
  readonly percent: number;
}

export type OnProgress = (progress: ImportProgress) => void;

export interface Order {
  readonly draft: Draft;
  /** What the request's file contained when its key was made; undefined: its checksum is not known yet. */
  readonly sha256: string | undefined;
  readonly onProgress: OnProgress;
}

/**
 * Makes the image of a request in a draft. The source is read once, into a copy that nothing else can write to:
 * what is checked, converted and stored is what has the checksum. Throws ImageError.
 */
export async function importImage(
  request: ImportRequest,
  order: Order,
  waiting: Waiting,
): Promise<Stored> {
  try {
    const taken = await takeSource(request, order, waiting);
    const made = await makeImage(request, { ...order, content: taken.content }, waiting);
    const stored = await describeImage(request, { ...order, taken }, made, waiting);
    waiting.signal.throwIfAborted();
    return stored;
  } catch (error) {
    throw await namingRoom(error, order.draft);
  }
}

/** A full file system is that of the store, not that of the file in the message. */
async function namingRoom(error: unknown, draft: Draft): Promise<unknown> {
  if (!(error instanceof ImageError) || error.code !== 'io' || !(await draft.isFull()))
    return error;
  const text = `${error.message}; there is no room left in ${draft.store}`;
  return new ImageError('io', text, { cause: error });
}

/** Makes the draft's source a copy of the file, or of the disk that it contains. */
async function takeSource(request: ImportRequest, order: Order, waiting: Waiting): Promise<Taken> {
  const { file } = request;
  const target = await createFile(order.draft.source);
  try {
    const head = await readAt(file.fd, Buffer.alloc(sniffBytes), 0);
    const take = isPacked(head) ? unpackSource : copySource;
    using _ = writingBack(target);
    const taken = await take(request, { ...order, target }, waiting);
    if (order.sha256 === undefined || taken.sha256 === order.sha256) return taken;
    throw new ImageError('io', `${file.path} changed while it was being imported`);
  } finally {
    await closeAside(target);
  }
}

/** What is written goes to the disk meanwhile: all at once at the end it took a tenth of the whole import. */
function writingBack(fd: number): Disposable {
  let isFree = true;
  const end = (): void => {
    isFree = true;
  };
  const timer = setInterval(() => {
    if (!isFree) return;
    isFree = false;
    startWriteBack(fd).then(end, end);
  }, writeBackMs);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

type Target = Order & { readonly target: number };

interface Taken {
  /** Of the file. */
  readonly sha256: string;
  readonly bytes: number;
  /** Checksum of what was made of it, without holes; undefined: not summed up. */
  readonly content: string | undefined;
}

async function copySource(
  { file }: ImportRequest,
  { target, onProgress }: Target,
  waiting: Waiting,
): Promise<Taken> {
  const report = (percent: number): void => onProgress({ step: 'copying', percent });
  report(0);
  const options = { algorithms: ['sha256'], holes: 'zeros', target, onProgress: report } as const;
  const what = `copying ${file.path}`;
  const [sha256 = ''] = await digest(file.fd, { what, ...options }, waiting);
  return { sha256, bytes: (await statAside(file.fd)).size, content: undefined };
}

async function unpackSource(
  { file: { fd, path }, member, maxVirtualBytes, converter: { uid } }: ImportRequest,
  { target, onProgress }: Target,
  waiting: Waiting,
): Promise<Taken> {
  const { size } = await statAside(fd);
  const report = (bytes: number): void =>
    onProgress({ step: 'unpacking', percent: Math.floor((100 * bytes) / size) });
  report(0);
  const limits = { maxBytes: maxFileBytes(maxVirtualBytes) };
  const request = { source: fd, name: path, dest: target, member, limits, uid, onProgress: report };
  const { source, content } = await unpack(request, waiting);
  return { sha256: source.sha256, bytes: size, content };
}

/** A full disk of this size in any format: tables take at most a sixteenth of what is in its clusters. */
function maxFileBytes(virtualBytes: number): number {
  return Math.min(Number.MAX_SAFE_INTEGER, virtualBytes + Math.ceil(virtualBytes / 16) + 64 * MiB);
}

interface Made {
  readonly format: DiskFormat;
  readonly virtualBytes: number;
  /** Its checksum without holes; undefined: to be read. */
  readonly content: string | undefined;
}

async function makeImage(
  request: ImportRequest,
  { draft, content, onProgress }: Order & Pick<Made, 'content'>,
  waiting: Waiting,
): Promise<Made> {
  const { source, image: target } = draft;
  const { format, virtualBytes } = await inspectCopy(request, source);
  const to = request.to ?? (format === 'raw' || format === 'qcow2' ? format : 'raw');
  if (virtualBytes > request.maxVirtualBytes) throw tooLarge(request, virtualBytes);
  if (format === to) {
    await rename(source, target);
    return { format: to, virtualBytes, content };
  }
  const { uid } = request.converter;
  await closeAside(await createFile(target));
  await Promise.all([source, target].map((path) => chown(path, uid, uid)));
  const conversion = {
    ...{ name: request.file.path, source, target, from: format, to, virtualBytes },
    onProgress: (percent: number) => onProgress({ step: 'converting', percent }),
  };
  await convert(conversion, request.converter, waiting);
  return { format: to, virtualBytes, content: undefined };
}

function tooLarge({ file, maxVirtualBytes }: ImportRequest, virtualBytes: number): ImageError {
  const text = `${file.path} is a disk of ${virtualBytes} bytes, more than the ${maxVirtualBytes} asked for`;
  return new ImageError('refused', text);
}

/** What is kept of the image, which from here on has its owner and mode. Throws where it is not what the header stated. */
async function describeImage(
  { file, member }: ImportRequest,
  { draft: { image: path }, taken }: Order & { readonly taken: Taken },
  { format, virtualBytes: expected, content: summed }: Made,
  waiting: Waiting,
): Promise<Stored> {
  await chown(path, process.getuid?.() ?? 0, process.getgid?.() ?? 0);
  await chmod(path, 0o400);
  const fd = await openAside(path, constants.O_RDONLY);
  const limits = { maxVirtualBytes: wholeSectors(expected), format };
  using image = await checkDiskFile({ fd, path: file.path }, limits);
  const what = `reading what ${file.path} became`;
  const content = summed ?? (await contentOf(fd, what, waiting));
  const { fileBytes, virtualBytes } = image;
  const { sha256, bytes } = taken;
  const source = { path: file.path, sha256, bytes, ...(member === undefined ? {} : { member }) };
  return { version: 1, format, virtualBytes, fileBytes, content, source };
}

async function contentOf(fd: number, what: string, waiting: Waiting): Promise<string> {
  const [content = ''] = await digest(
    fd,
    { what, algorithms: ['sha256'], holes: 'skipped' },
    waiting,
  );
  return content;
}
