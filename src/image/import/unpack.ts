import { askWorker, HostError, lowNiceness, pipeBytes, type WorkerProgram } from '#host';
import type { Waiting } from '#spec';
import { checkWaiting, ImageError, type ImageErrorCode, step } from '../error.ts';
import { readAt } from '../positional.ts';
import { ContainedProgram } from './contained-program.ts';
import type { ProgramPipes } from './fed-program.ts';
import { headBytes, packingOf } from './packing.ts';

const importer: WorkerProgram = {
  url: () => new URL('./import-worker.ts', import.meta.url),
  asset: 'import-worker.cjs',
};

/** What it holds is bounded by the program; a sparse map of a million parts is the largest. */
const limits = { ms: 24 * 3600 * 1000, heapMiB: 256 };
const progressMs = 200;

export interface UnpackRequest {
  /** Descriptor of the opened, allowed file, for reading. */
  readonly source: number;
  /** For messages only. */
  readonly name: string;
  /** An empty file, open for reading and writing: it gets the disk's bytes, sparse. Undefined content after an error. */
  readonly dest: number;
  /** Which file of an archive is the disk; left out: the only disk in it. */
  readonly member?: string | undefined;
  /** Also SHA-256 of the disk and SHA-512 of the source, which take about as long as the rest of the import. */
  readonly allChecksums?: boolean;
  /** Decompresses by a program of the host, as this user, which nothing else has; left out: in the thread. */
  readonly uid?: number;
  readonly limits: {
    /** Maximum size of the unpacked disk file. */
    readonly maxBytes: number;
  };
  /** Bytes of the source that were read so far; at most every 200 ms. */
  readonly onProgress: (bytesRead: number) => void;
}

export interface Unpacked {
  readonly fileBytes: number;
  /** SHA-256 of the unpacked bytes without holes, as `digest` has it. */
  readonly content: string;
  /** Of the unpacked bytes, holes included, if asked for. */
  readonly sha256?: string;
  /** Checksums of the file as it was downloaded. */
  readonly source: { readonly sha256: string; readonly sha512?: string };
  /** The archive's file that the disk is. */
  readonly member?: string;
}

/** What the worker gets. */
export interface ImportData {
  readonly source: number;
  readonly dest: number;
  readonly member: string | undefined;
  readonly maxBytes: number;
  readonly allChecksums: boolean;
  /** Of the thread. */
  readonly niceness: number;
  /** Of what decompresses the source. */
  readonly pipes: ProgramPipes | undefined;
  /** One integer of 64 bits, the bytes read. */
  readonly progress: SharedArrayBuffer;
}

/** What the worker answers: `refused` where the file or the job is at fault, `failed` where the host is. */
export type ImportAnswer =
  | { readonly unpacked: Unpacked }
  | {
      readonly refused: string;
      readonly code: Exclude<ImageErrorCode, 'io'>;
      readonly programEnded: boolean;
    }
  | { readonly failed: string };

/**
 * Unpacks the disk of a compressed file or an archive, in a thread of its own. What it is is decided by its content. Nothing is
 * written but to `dest`, and nothing any more when this has settled. Throws ImageError: `refused` for a file that is damaged, has
 * no disk, or passes a limit; `member` where the named file is missing or one has to be named; `io` where the system fails or the
 * signal aborts.
 */
export async function unpack(request: UnpackRequest, waiting: Waiting): Promise<Unpacked> {
  const { name } = request;
  const what = `unpacking ${name}`;
  checkWaiting(what, waiting.signal);
  await using program = await programFor(request);
  const answer = await ask(request, program, waiting);
  if ('failed' in answer) throw new ImageError('io', `${what}: ${answer.failed}`);
  if ('refused' in answer) {
    // Where the program ended first, what it found is the cause of what the thread found.
    const fault = answer.programEnded ? await program?.fault() : undefined;
    const code = fault === undefined ? answer.code : 'refused';
    throw new ImageError(code, `${name} cannot be unpacked: ${fault ?? answer.refused}`);
  }
  const fault = await program?.fault();
  if (fault === undefined) return answer.unpacked;
  throw new ImageError('refused', `${name} cannot be unpacked: ${fault}`);
}

async function programFor({
  source,
  name,
  uid,
  limits: { maxBytes },
}: UnpackRequest): Promise<ContainedProgram | undefined> {
  if (uid === undefined) return undefined;
  const begin = await step(`reading ${name}`, () => readAt(source, Buffer.alloc(pipeBytes), 0));
  const packing = packingOf(begin.subarray(0, headBytes));
  if (packing === 'none' || packing === 'tar') return undefined;
  return ContainedProgram.start(packing, { uid, maxBytes, begin });
}

async function ask(
  request: UnpackRequest,
  program: ContainedProgram | undefined,
  waiting: Waiting,
): Promise<ImportAnswer> {
  const { source, dest, name, member, allChecksums = false, onProgress } = request;
  const { maxBytes } = request.limits;
  const progress = new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT);
  const timer = reportProgress(progress, onProgress);
  try {
    const sent = { source, dest, member, maxBytes, allChecksums, progress, pipes: program?.pipes };
    const data = { ...sent, niceness: lowNiceness };
    return (await askWorker(importer, data satisfies ImportData, limits, waiting)) as ImportAnswer; // sent by our own worker
  } catch (cause) {
    checkWaiting(`unpacking ${name}`, waiting.signal);
    if (!(cause instanceof HostError) || cause.code !== 'worker-limit') throw cause;
    throw new ImageError('refused', `${name} cannot be unpacked: ${cause.message}`, { cause });
  } finally {
    clearInterval(timer);
  }
}

function reportProgress(
  progress: SharedArrayBuffer,
  onProgress: (bytesRead: number) => void,
): NodeJS.Timeout {
  const counter = new BigInt64Array(progress);
  let reported = 0n;
  return setInterval(() => {
    const read = Atomics.load(counter, 0);
    if (read === reported) return;
    reported = read;
    onProgress(Number(read));
  }, progressMs);
}
