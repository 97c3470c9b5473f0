import { createHash } from 'node:crypto';
import { readSync, writeSync } from 'node:fs';
import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { runsOfData, updatePlaced, zeroBytes } from '../zero-runs.ts';
import type { DigestOrder } from './digest.ts';

// Runs in a thread that digest.ts starts: reads a file, sends its checksums. The descriptors stay its caller's.
const { source, fileBytes, ranges, target, algorithms, holes, niceness, counter }: DigestOrder =
  workerData;
// Of this thread: VMs that start meanwhile go first.
setPriority(niceness);
const chunkBytes = 1024 * 1024;
const zeros = Buffer.alloc(zeroBytes);
const buffer = Buffer.alloc(chunkBytes);
const hashes = algorithms.map((algorithm) => createHash(algorithm));
const done = new BigInt64Array(counter);

let at = 0;
for (const { start, end } of ranges) {
  skip(at, start);
  for (at = start; at < end; ) at += take(at, Math.min(end, at - (at % chunkBytes) + chunkBytes));
}
skip(at, fileBytes);
parentPort?.postMessage(hashes.map((hash) => hash.digest('hex')));

function skip(from: number, to: number): void {
  if (holes === 'skipped') return;
  for (let left = to - from; left > 0; left -= zeroBytes) {
    update(zeros.subarray(0, Math.min(left, zeroBytes)));
  }
}

function take(from: number, to: number): number {
  const chunk = readWhole(buffer.subarray(0, to - from), from);
  if (holes === 'zeros') update(chunk);
  forEachRun(chunk, from);
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

function forEachRun(chunk: Buffer, offset: number): void {
  if (holes === 'zeros' && target === undefined) return;
  for (const { start, end } of runsOfData(chunk)) {
    const data = chunk.subarray(start, end);
    if (holes === 'skipped') for (const hash of hashes) updatePlaced(hash, data, offset + start);
    if (target !== undefined) writeWhole(target, data, offset + start);
  }
}

function writeWhole(fd: number, bytes: Buffer, offset: number): void {
  for (let written = 0; written < bytes.length; ) {
    written += writeSync(fd, bytes, written, bytes.length - written, offset + written);
  }
}

function update(bytes: Buffer): void {
  for (const hash of hashes) hash.update(bytes);
}
