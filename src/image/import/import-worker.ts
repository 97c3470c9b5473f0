import { createHash } from 'node:crypto';
import { readSync } from 'node:fs';
import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { ImageError } from '../error.ts';
import { Budget } from './budget.ts';
import { DiskSink } from './disk-sink.ts';
import { FedProgram } from './fed-program.ts';
import { findDisk } from './find-disk.ts';
import type { ImportAnswer, ImportData } from './unpack.ts';

// Runs in a thread that unpack.ts starts: it reads and writes the two descriptors, and answers once.

const { source, dest, member, maxBytes, allChecksums, niceness, progress, pipes } =
  workerData as ImportData; // sent by unpack.ts
// Of this thread: VMs that start meanwhile go first.
setPriority(niceness);
const program = pipes && new FedProgram(pipes);
const chunkBytes = 256 * 1024;
const budget = new Budget({ maxBytes });
const sha256 = createHash('sha256');
const sha512 = allChecksums ? createHash('sha512') : undefined;

async function* sourceBytes(): AsyncGenerator<Uint8Array, void, undefined> {
  const counter = new BigInt64Array(progress);
  for (let bytes = pipes?.begun ?? readChunk(); bytes.length > 0; bytes = readChunk()) {
    sha256.update(bytes);
    sha512?.update(bytes);
    budget.readBytes += bytes.length;
    Atomics.store(counter, 0, BigInt(budget.readBytes));
    yield bytes;
  }
}

function readChunk(): Uint8Array {
  // A new one: decompressors hold it for longer than until the next read.
  const buffer = Buffer.allocUnsafeSlow(chunkBytes);
  return buffer.subarray(0, readSync(source, buffer, 0, chunkBytes, budget.readBytes));
}

async function unpackAll(): Promise<ImportAnswer> {
  const sink = new DiskSink(dest, { maxBytes, hashed: allChecksums });
  const found = await findDisk(sourceBytes(), { sink, budget, maxBytes, member, program });
  const disk = sink.sha256();
  return {
    unpacked: {
      fileBytes: sink.fileBytes,
      content: sink.content(),
      ...(disk !== undefined && { sha256: disk }),
      source: {
        sha256: sha256.digest('hex'),
        ...(sha512 !== undefined && { sha512: sha512.digest('hex') }),
      },
      ...(found !== undefined && { member: found }),
    },
  };
}

// An error's class and code do not get through to the other thread.
unpackAll().then(
  (answer) => parentPort?.postMessage(answer),
  (error: unknown) => parentPort?.postMessage(failureOf(error)),
);

function failureOf(error: unknown): ImportAnswer {
  if (error instanceof ImageError && error.code !== 'io') {
    return { refused: error.message, code: error.code, programEnded: program?.hasEnded === true };
  }
  return { failed: error instanceof Error ? error.message : String(error) };
}
