import { createHash } from 'node:crypto';
import { readSync, writeSync } from 'node:fs';
import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import type { DigestOrder } from './digest.ts';

// Runs in a thread that digest.ts starts: reads a file, sends its checksums. The descriptors stay its caller's.
const { source, fileBytes, ranges, target, algorithms, holes, niceness, counter }: DigestOrder =
  workerData;
// Of this thread: VMs that start meanwhile go first.
setPriority(niceness);
const chunkBytes = 1024 * 1024;
/** Aligned runs of zeros of this size are holes, whether the file has them as such or not. */
const blockBytes = 64 * 1024;
const zeros = Buffer.alloc(blockBytes);
const buffer = Buffer.alloc(chunkBytes);
const hashes = algorithms.map((algorithm) => createHash(algorithm));
const done = new BigInt64Array(counter);
const place = Buffer.alloc(8);

let at = 0;
for (const { start, end } of ranges) {
  skip(at, start);
  for (at = start; at < end; ) at += take(at, Math.min(end, at - (at % chunkBytes) + chunkBytes));
}
skip(at, fileBytes);
parentPort?.postMessage(hashes.map((hash) => hash.digest('hex')));

function skip(from: number, to: number): void {
  if (holes === 'skipped') return;
  for (let left = to - from; left > 0; left -= blockBytes) {
    update(zeros.subarray(0, Math.min(left, blockBytes)));
  }
}

function take(from: number, to: number): number {
  const chunk = readWhole(buffer.subarray(0, to - from), from);
  if (holes === 'zeros') update(chunk);
  forEachBlock(chunk, from);
  Atomics.add(done, 0, BigInt(chunk.length));
  return chunk.length;
}

function readWhole(chunk: Buffer, from: number): Buffer {
  for (let filled = 0; filled < chunk.length; ) {
    const bytes = readSync(source, chunk, filled, chunk.length - filled, from + filled);
    if (bytes === 0) throw new Error('the file became shorter while it was being read');
    filled += bytes;
  }
  return chunk;
}

function forEachBlock(chunk: Buffer, offset: number): void {
  if (holes === 'zeros' && target === undefined) return;
  for (let start = 0; start < chunk.length; ) {
    const end = Math.min(chunk.length, start + blockBytes);
    const block = chunk.subarray(start, end);
    if (block.compare(zeros, 0, block.length) !== 0) {
      if (holes === 'skipped') updatePlaced(block, offset + start);
      if (target !== undefined) writeWhole(target, block, offset + start);
    }
    start = end;
  }
}

function updatePlaced(block: Buffer, offset: number): void {
  place.writeBigUInt64LE(BigInt(offset));
  update(place);
  update(block);
}

function writeWhole(fd: number, bytes: Buffer, offset: number): void {
  for (let written = 0; written < bytes.length; ) {
    written += writeSync(fd, bytes, written, bytes.length - written, offset + written);
  }
}

function update(bytes: Buffer): void {
  for (const hash of hashes) hash.update(bytes);
}
