import type { BigIntStats } from 'node:fs';
import {
  copyRange,
  errnoOf,
  ficlone,
  resizeAside,
  seekDataAside,
  seekHoleAside,
  statAside,
} from '#host';
import type { Waiting } from '#spec';
import { checkWaiting, ImageError, step } from './error.ts';
import type { OpenImage } from './open-image.ts';
import { readAt, writeAt } from './positional.ts';
import { inspectQcow2 } from './qcow2.ts';
import { sniffBytes } from './sniff.ts';
import { runsOfData } from './zero-runs.ts';

const chunkBytes = 2 * 1024 * 1024;
/** What the kernel copies between two looks at the signal. */
const kernelBytes = 32 * 1024 * 1024;

/** How a copy is waited for. */
export type Copying = Waiting & { readonly onProgress?: (percent: number) => void };

/**
 * Copies the image into the destination, which is open for reading and writing: by sharing its blocks where the file
 * system can, else by copying what is not a hole, inside of the kernel where it can. The copy's header is checked again,
 * because a task may have written to the image since it was opened, and no other process can write to the copy. Throws
 * ImageError `refused`, or `io`, also when the signal aborts; the content of the destination is then undefined.
 */
export async function copyImage(
  source: OpenImage,
  destFd: number,
  waiting: Copying,
): Promise<{ readonly how: 'reflink' | 'sparse' }> {
  const what = `copying ${source.path}`;
  checkWaiting(what, waiting.signal);
  return step(what, async () => {
    const before = await statAside(source.fd, { bigint: true });
    await resizeAside(destFd, 0);
    const how = (await ficlone(destFd, source.fd, waiting)) ? 'reflink' : 'sparse';
    if (how === 'sparse') {
      await copySparse(source, destFd, waiting);
      await checkUnchanged(source, before);
    }
    await checkCopy(source, destFd);
    return { how };
  });
}

/** Makes a raw disk larger, with zeros; `bytes` is its new size. ImageError `refused` when it would shrink. */
export async function growRaw(fd: number, bytes: number): Promise<void> {
  await step('growing a raw disk', async () => {
    const { size: now } = await statAside(fd);
    if (bytes < now) {
      throw new ImageError('refused', `a raw disk of ${now} bytes does not fit into ${bytes}`);
    }
    if (bytes > now) await resizeAside(fd, bytes);
  });
}

/** How much of a file is behind an offset. */
export function percentOf(offset: number, { fileBytes }: Extent): number {
  return Math.floor((100 * offset) / Math.max(1, fileBytes));
}

async function copySparse(source: OpenImage, destFd: number, waiting: Copying): Promise<void> {
  // The file was empty: what is not written reads as zeros.
  await resizeAside(destFd, source.fileBytes);
  // A file without holes is as it was downloaded. It is read, since its zeros need not take space in the copy.
  if ((await hasHoles(source.fd)) && (await copyInKernel(source, destFd, waiting))) return;
  await copyByReading(source, destFd, waiting);
}

async function hasHoles(fd: number): Promise<boolean> {
  const { blocks, size } = await statAside(fd);
  return blocks * 512 < size;
}

/** False where the kernel can't do it, or the source has ended too early. */
async function copyInKernel(
  source: OpenImage,
  destFd: number,
  { signal, onProgress }: Copying,
): Promise<boolean> {
  for await (const { start, end } of dataRanges(source)) {
    for (let offset = start; offset < end; ) {
      checkWaiting(`copying ${source.path}`, signal);
      const range = { offset, length: Math.min(end - offset, kernelBytes) };
      const bytes = (await copyRange(source.fd, destFd, range)) ?? 0;
      if (bytes === 0) return false;
      offset += bytes;
      onProgress?.(percentOf(offset, source));
    }
  }
  return true;
}

async function copyByReading(
  source: OpenImage,
  destFd: number,
  { signal, onProgress }: Copying,
): Promise<void> {
  let [buffer, other] = [Buffer.alloc(chunkBytes), Buffer.alloc(chunkBytes)];
  let writing: Promise<void> = Promise.resolve();
  try {
    for await (const { start, end } of chunksOfData(source)) {
      checkWaiting(`copying ${source.path}`, signal);
      onProgress?.(percentOf(start, source));
      const chunk = await readChunk(source, buffer.subarray(0, end - start), start);
      await writing;
      // One chunk is written while the next one is read.
      writing = writeChunk(destFd, chunk, start);
      writing.catch(ignore);
      [buffer, other] = [other, buffer];
    }
    await writing;
  } finally {
    // The caller closes the descriptor next, so no write may be pending on it.
    await writing.catch(ignore);
  }
}

/** Parts read one after the other are one image only when nothing was written in the meantime. */
async function checkUnchanged(source: OpenImage, before: BigIntStats): Promise<void> {
  const after = await statAside(source.fd, { bigint: true });
  const same = before.mtimeNs === after.mtimeNs && Number(after.size) === source.fileBytes;
  if (!same) throw changed(source);
}

/** What is not a hole, in parts that fit a buffer. Parts end at multiples of its size, which keeps runs of zeros aligned. */
export async function* chunksOfData(file: Extent): AsyncGenerator<Range, void, undefined> {
  for await (const { start, end: hole } of dataRanges(file)) {
    for (let at = start; at < hole; ) {
      const end = Math.min(hole, at - (at % chunkBytes) + chunkBytes);
      yield { start: at, end };
      at = end;
    }
  }
}

type Extent = Pick<OpenImage, 'fd' | 'fileBytes'>;

export interface Range {
  readonly start: number;
  readonly end: number;
}

/** What is not a hole of the file. */
export async function* dataRanges(file: Extent): AsyncGenerator<Range, void, undefined> {
  let start = await nextData(file, 0);
  while (start < file.fileBytes) {
    const end = await nextHole(file, start);
    yield { start, end };
    start = await nextData(file, end);
  }
}

async function readChunk(source: OpenImage, buffer: Buffer, offset: number): Promise<Buffer> {
  const read = await readAt(source.fd, buffer, offset);
  if (read.length < buffer.length) throw changed(source);
  return buffer;
}

async function writeChunk(destFd: number, chunk: Buffer, offset: number): Promise<void> {
  for (const { start, end } of runsOfData(chunk)) {
    await writeAt(destFd, chunk.subarray(start, end), offset + start);
  }
}

async function checkCopy(source: OpenImage, destFd: number): Promise<void> {
  const { size } = await statAside(destFd);
  if (size !== source.fileBytes) throw changed(source);
  if (source.format === 'raw') return;
  const head = await readAt(destFd, new Uint8Array(sniffBytes), 0);
  const { problems, virtualBytes } = inspectQcow2(head, size);
  if (problems.length === 0 && virtualBytes === source.virtualBytes) return;
  const reason = problems.join('; ') || 'its size is different';
  throw new ImageError('refused', `${source.path} is refused after it changed: ${reason}`);
}

// Half of the old and half of the new bytes would be a disk that never existed.
function changed({ path }: OpenImage): ImageError {
  return new ImageError('io', `${path} changed while it was being copied`);
}

async function nextData({ fd, fileBytes }: Extent, from: number): Promise<number> {
  if (from >= fileBytes) return fileBytes;
  const at = await withoutHoles(async () => (await seekDataAside(fd, from)) ?? fileBytes, from);
  return Math.min(at, fileBytes);
}

async function nextHole({ fd, fileBytes }: Extent, from: number): Promise<number> {
  return Math.min(await withoutHoles(() => seekHoleAside(fd, from), fileBytes), fileBytes);
}

// A file system without SEEK_DATA and SEEK_HOLE reports no holes: everything is data.
async function withoutHoles(seek: () => Promise<number>, otherwise: number): Promise<number> {
  try {
    return await seek();
  } catch (error) {
    if (unknownSeek.has(errnoOf(error) ?? '')) return otherwise;
    throw error;
  }
}

const unknownSeek = new Set(['EINVAL', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS']);

function ignore(): void {}
