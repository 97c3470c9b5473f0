import { fstatSync, readSync } from 'node:fs';
import {
  closeFd,
  endsWithin,
  findProgram,
  HostError,
  kill,
  memfd,
  type SpawnedProcess,
  socketPair,
  spawnDetached,
  within,
} from '#host';
import type { Compression } from './packing.ts';

const MiB = 1024 * 1024;
const killMs = 5_000;
/** From its last byte to its end. */
const endMs = 10_000;
const maxMemoryBytes = 256 * MiB;
const maxMessageBytes = 4096;
const minCpuSeconds = 60;
/** Far below what any host decompresses in a second of CPU time. */
const bytesPerCpuSecond = 2 * MiB;

/** What is slower in the thread. A dictionary of 64 MiB is the largest one that the thread supports as well. */
const programs: Partial<Readonly<Record<Compression, readonly [string, ...string[]]>>> = {
  xz: ['xz', '-dc', '-T1', '--memlimit-decompress=80MiB'],
  bzip2: ['bzip2', '-dc'],
};

/**
 * A program of the host that decompresses what comes from a socket back to it: as a user of its own, without network, files
 * or further processes, with limits on memory and CPU time. It ends when the socket's other end is closed.
 */
export class ContainedProgram {
  readonly how: Compression;
  /** The socket's other end. */
  readonly fd: number;
  /** One integer of 32 bits: not 0 when another owner of the descriptor closes it. */
  readonly adopted = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  readonly #child: SpawnedProcess;
  readonly #output: number;

  private constructor(
    how: Compression,
    fd: number,
    { child, output }: { readonly child: SpawnedProcess; readonly output: number },
  ) {
    this.how = how;
    this.fd = fd;
    this.#child = child;
    this.#output = output;
  }

  /** undefined where the host has no such program, or does not permit to contain it. */
  static async start(
    how: Compression,
    { uid, maxBytes }: { readonly uid: number; readonly maxBytes: number },
  ): Promise<ContainedProgram | undefined> {
    const [name = '', ...args] = programs[how] ?? [];
    // Programs of other directories are not to be seen from where it runs.
    const [program, prlimit] = [name, 'prlimit'].map((it) => findProgram(it, [], ''));
    if (name === '' || program === undefined || prlimit === undefined) return undefined;
    const [ours, theirs] = socketPair();
    const output = memfd(name, new Uint8Array());
    try {
      const child = await spawnDetached({
        // It limits itself and becomes the other program: the limits are there before the first byte, and can't be raised.
        program: prlimit,
        args: [...limitsFor(maxBytes), program, ...args],
        env: { LC_ALL: 'C' },
        cwd: '/',
        uid,
        gid: uid,
        stdio: [theirs, theirs, output],
        alone: true,
        yields: true,
        bareRoot: true,
      });
      return new ContainedProgram(how, ours, { child, output });
    } catch (error) {
      for (const fd of [ours, output]) closeFd(fd);
      if (error instanceof HostError) return undefined;
      throw error;
    } finally {
      closeFd(theirs);
    }
  }

  /** Why it failed, after it has closed its end; undefined where it did all that it should. */
  async fault(): Promise<string | undefined> {
    const what = 'it cannot be decompressed';
    if (!(await endsWithin(this.#child.exit, endMs))) return `${what}: ${this.how} does not end`;
    const { code, signal } = await this.#child.exit;
    return code === 0 ? undefined : `${what}: ${signal ?? messages(this.#output)} (${this.how})`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (new Int32Array(this.adopted)[0] === 0) closeFd(this.fd);
    using limited = within(killMs);
    try {
      await kill(this.#child.identity, limited);
    } finally {
      closeFd(this.#output);
    }
  }
}

function limitsFor(maxBytes: number): readonly string[] {
  return [
    '--core=0',
    `--cpu=${minCpuSeconds + Math.ceil(maxBytes / bytesPerCpuSecond)}`,
    `--fsize=${maxMessageBytes}`,
    `--as=${maxMemoryBytes}`,
    '--nofile=16',
    '--nproc=1',
  ];
}

/** The text may contain what the image contains. */
function messages(output: number): string {
  const bytes = Buffer.alloc(Math.min(fstatSync(output).size, maxMessageBytes));
  const text = bytes.toString('utf8', 0, readSync(output, bytes, 0, bytes.length, 0));
  return (
    text
      .trim()
      .replaceAll(/\s*\n\s*/g, '; ')
      .replaceAll(/\p{Cc}/gu, '?') || 'no reason given'
  );
}
