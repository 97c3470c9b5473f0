import { closeFd, kill, memfd, type SpawnedProcess, spawnDetached, within } from '#host';
import { type DiskFormat, type ForeignFormat, type Waiting, wholeSectors } from '#spec';
import { ImageError, step } from '../error.ts';
import { messages, percentOf } from './messages.ts';

const MiB = 1024 * 1024;
const pollMs = 500;
const killMs = 5_000;
/** qemu-img takes about 100 MiB with the largest clusters, and address space for the stacks of its threads. */
const maxMemoryBytes = 2048 * MiB;
const maxThreads = 128;
const maxOpenFiles = 64;
const minCpuSeconds = 120;
/** Far below what any host converts in a second of CPU time. */
const bytesPerCpuSecond = 8 * MiB;

/** The programs that convert images, and the user that they run as. */
export interface Converter {
  /** undefined where it is not installed. */
  readonly qemuImg: string | undefined;
  /** Limits a program that it starts; undefined where it is not installed. */
  readonly prlimit: string | undefined;
  /** No other VM has it. */
  readonly uid: number;
  /** What its process is found by when this one is gone: a text in its arguments, without a slash. */
  readonly mark: string;
}

export interface Conversion {
  /** Of the image, for messages. */
  readonly name: string;
  /** Both are the converter's own: nothing is refused to it by their modes. */
  readonly source: string;
  readonly target: string;
  readonly from: DiskFormat | ForeignFormat;
  readonly to: DiskFormat;
  readonly virtualBytes: number;
  readonly onProgress: (percent: number) => void;
}

/**
 * Converts an image by qemu-img: as a user of its own, without capabilities, network or any file but the two, with limits
 * on memory, CPU time and what it writes. The formats are stated, never probed. When the signal aborts it is killed at
 * once. Throws ImageError with what it reported.
 */
export async function convert(
  conversion: Conversion,
  { qemuImg, prlimit, uid, mark }: Converter,
  waiting: Waiting,
): Promise<void> {
  const { source, target, from, to, virtualBytes } = conversion;
  if (qemuImg === undefined) throw missing(from, 'qemu-img', 'qemu-utils (in Fedora qemu-img)');
  if (prlimit === undefined) throw missing(from, 'prlimit', 'util-linux');
  const names = { source: `source-${mark}`, target: `target-${mark}` };
  const output = memfd('qemu-img', new Uint8Array());
  try {
    const child = await step(`starting ${qemuImg}`, () =>
      spawnDetached({
        // It limits itself and becomes qemu-img: the limits are there before the first byte is read, and can't be raised.
        program: prlimit,
        args: [
          ...limitsFor(virtualBytes, to),
          ...[qemuImg, 'convert', '-p', '-f', from, '-O', to],
          ...[`/${names.source}`, `/${names.target}`],
        ],
        env: { LC_ALL: 'C' },
        cwd: '/',
        uid,
        gid: uid,
        stdio: ['ignore', output, output],
        alone: true,
        yields: true,
        // What an image makes it start would still have the target open, and the image is another VM's base by then.
        endsWhole: true,
        bareFiles: [
          { path: source, name: names.source, writable: false },
          { path: target, name: names.target, writable: true },
        ],
      }),
    );
    await supervise(child, { output, conversion }, waiting);
  } finally {
    closeFd(output);
  }
}

function missing(format: string, program: string, packages: string): ImageError {
  const text = `an image of format ${format} is converted by ${program}, which is not installed on this host: install the package ${packages}`;
  return new ImageError('io', text);
}

function limitsFor(virtualBytes: number, to: DiskFormat): readonly string[] {
  // qcow2 keeps tables of at most an eighth of its data at the default size of clusters, mostly far less.
  const fileBytes = to === 'raw' ? virtualBytes : virtualBytes + Math.ceil(virtualBytes / 8) + MiB;
  return [
    '--core=0',
    `--cpu=${minCpuSeconds + Math.ceil(virtualBytes / bytesPerCpuSecond)}`,
    `--fsize=${wholeSectors(fileBytes)}`,
    `--as=${maxMemoryBytes}`,
    `--nofile=${maxOpenFiles}`,
    `--nproc=${maxThreads}`,
  ];
}

interface Supervised {
  readonly output: number;
  readonly conversion: Conversion;
}

async function supervise(
  child: SpawnedProcess,
  { output, conversion }: Supervised,
  waiting: Waiting,
): Promise<void> {
  const { name, from, to } = conversion;
  const what = `converting ${name} from ${from} to ${to}`;
  const report = (): void => {
    const percent = percentOf(output);
    if (percent !== undefined) conversion.onProgress(percent);
  };
  const timer = setInterval(report, pollMs);
  const stop = (): void => void end(child).catch(() => {});
  waiting.signal.addEventListener('abort', stop, { once: true });
  try {
    if (waiting.signal.aborted) stop();
    const { code, signal } = await child.exit;
    if (waiting.signal.aborted) {
      throw new ImageError('io', `${what} was cancelled`, { cause: waiting.signal.reason });
    }
    if (code === 0) return;
    throw failure(`${what}: qemu-img ended with ${code ?? signal}`, messages(output));
  } finally {
    clearInterval(timer);
    waiting.signal.removeEventListener('abort', stop);
    // Nothing writes to the target after this.
    await end(child);
  }
}

async function end({ identity }: SpawnedProcess): Promise<void> {
  using limited = within(killMs);
  await kill(identity, limited);
}

/** What the host lacks may be there another time; what the image is stays as it is. */
function failure(what: string, reported: string): ImageError {
  const hostIsFull = /No space left on device|Disk quota exceeded/.test(reported);
  return new ImageError(hostIsFull ? 'io' : 'refused', `${what}: ${reported}`);
}
