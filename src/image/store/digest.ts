import { askWorker, lowNiceness, resizeAside, statAside, type WorkerProgram } from '#host';
import type { Checksum, Waiting } from '#spec';
import { dataRanges, type Range } from '../copy.ts';
import { step } from '../error.ts';

const program: WorkerProgram = {
  url: () => new URL('./digest-worker.ts', import.meta.url),
  asset: 'digest-worker.cjs',
};

/** A file may have terabytes: only the signal ends it. */
const limits = { ms: 24 * 3600 * 1000, heapMiB: 64 };
const pollMs = 200;

export type Algorithm = Checksum['algorithm'];

/** What the thread is asked for. */
export interface DigestOrder {
  readonly source: number;
  readonly fileBytes: number;
  /** What is not a hole, in whole blocks of 64 KiB. */
  readonly ranges: readonly Range[];
  /** A file that becomes a copy. */
  readonly target: number | undefined;
  readonly algorithms: readonly Algorithm[];
  /**
   * `zeros`: the checksum of all bytes, as of any program. `skipped`: of the blocks of 64 KiB that are not zero, each with
   * its place, which takes no longer for a large disk with little in it.
   */
  readonly holes: 'zeros' | 'skipped';
  /** Of the thread. */
  readonly niceness: number;
  /** Bytes read so far. */
  readonly counter: SharedArrayBuffer;
}

export interface DigestOptions {
  /** For messages. */
  readonly what: string;
  readonly algorithms: readonly Algorithm[];
  readonly holes: DigestOrder['holes'];
  /** Empty, open for writing. */
  readonly target?: number;
  readonly onProgress?: (percent: number) => void;
}

/**
 * The checksums of a file that is open for reading, in the order of the algorithms, and its copy if one is wanted. In a
 * thread of its own, which ends within milliseconds when the signal aborts. Throws ImageError.
 */
export async function digest(
  source: number,
  { what, algorithms, holes, target, onProgress }: DigestOptions,
  waiting: Waiting,
): Promise<readonly string[]> {
  return step(what, async () => {
    const { size: fileBytes } = await statAside(source);
    const ranges = await wholeBlocks(dataRanges({ fd: source, fileBytes }), fileBytes);
    if (target !== undefined) await resizeAside(target, fileBytes);
    const counter = new SharedArrayBuffer(8);
    const order = {
      source,
      fileBytes,
      ranges,
      target,
      algorithms,
      holes,
      niceness: lowNiceness,
      counter,
    };
    const total = ranges.reduce((sum, { start, end }) => sum + end - start, 0);
    const done = new BigInt64Array(counter);
    const timer = setInterval(() => {
      onProgress?.(Math.floor((100 * Number(Atomics.load(done, 0))) / Math.max(1, total)));
    }, pollMs);
    try {
      const answer = await askWorker(program, order satisfies DigestOrder, limits, waiting);
      return Array.isArray(answer) ? answer.map(String) : [];
    } finally {
      clearInterval(timer);
    }
  });
}

const blockBytes = 64 * 1024;

/** File systems have holes of other sizes: a block that is a hole in part is read as a whole. */
async function wholeBlocks(
  ranges: AsyncIterable<Range>,
  fileBytes: number,
): Promise<readonly Range[]> {
  const whole: { start: number; end: number }[] = [];
  for await (const range of ranges) {
    const start = Math.floor(range.start / blockBytes) * blockBytes;
    const end = Math.min(fileBytes, Math.ceil(range.end / blockBytes) * blockBytes);
    const last = whole.at(-1);
    if (last !== undefined && last.end >= start) last.end = end;
    else whole.push({ start, end });
  }
  return whole;
}
