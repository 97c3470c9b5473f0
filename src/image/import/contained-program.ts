import { fstatSync, readSync, writeSync } from 'node:fs';
import {
  closeFd,
  endsWithin,
  findProgram,
  HostError,
  kill,
  memfd,
  type SpawnedProcess,
  spawnDetached,
  widePipe,
  within,
} from '#host';
import type { ProgramPipes } from './fed-program.ts';
import type { Compression } from './packing.ts';
import { xzNeedsMemory } from './xz.ts';

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

export interface ProgramOptions {
  /** Nothing else has this user. */
  readonly uid: number;
  /** Maximum of what it decompresses, which limits its CPU time. */
  readonly maxBytes: number;
  /** How its input begins: as much of it as the pipe holds is there at once. */
  readonly begin: Uint8Array;
}

/**
 * A program of the host that decompresses from one pipe into another: as a user of its own, without network, files or further
 * processes, with limits on memory and CPU time. It ends when the other ends of its pipes are closed.
 */
export class ContainedProgram {
  /** For the thread that feeds it, which has ended when this is disposed of. */
  readonly pipes: ProgramPipes;
  readonly #child: SpawnedProcess;
  readonly #messages: number;

  private constructor(
    pipes: ProgramPipes,
    { child, messages }: { readonly child: SpawnedProcess; readonly messages: number },
  ) {
    this.pipes = pipes;
    this.#child = child;
    this.#messages = messages;
  }

  /** undefined where the host has no such program, or does not permit to contain it. */
  static async start(
    how: Compression,
    { uid, maxBytes, begin }: ProgramOptions,
  ): Promise<ContainedProgram | undefined> {
    const [name = '', ...args] = programs[how] ?? [];
    // Programs of other directories are not to be seen from where it runs.
    const [program, prlimit] = [name, 'prlimit'].map((it) => findProgram(it, [], ''));
    if (name === '' || program === undefined || prlimit === undefined) return undefined;
    using ours = new DisposableStack();
    using theirs = new DisposableStack();
    const input = widePipe('write');
    theirs.adopt(input.read, closeFd);
    ours.adopt(input.write, closeFd);
    const output = widePipe('read');
    theirs.adopt(output.write, closeFd);
    ours.adopt(output.read, closeFd);
    const begun = begin.subarray(0, writeSync(input.write, begin));
    const messages = ours.adopt(memfd(name, new Uint8Array()), closeFd);
    const inputClosed = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    try {
      const child = await spawnDetached({
        // It limits itself and becomes the other program: the limits are there before the first byte, and can't be raised.
        program: prlimit,
        args: [...limitsFor(maxBytes), program, ...args],
        env: { LC_ALL: 'C' },
        cwd: '/',
        uid,
        gid: uid,
        stdio: [input.read, output.write, messages],
        alone: true,
        yields: true,
        bareRoot: true,
      });
      ours.move();
      const pipes = { how, input: input.write, begun, output: output.read, inputClosed };
      return new ContainedProgram(pipes, { child, messages });
    } catch (error) {
      if (error instanceof HostError) return undefined;
      throw error;
    }
  }

  /** Why it failed, after it has closed its end; undefined where it did all that it should. */
  async fault(): Promise<string | undefined> {
    const what = 'it cannot be decompressed';
    const { how } = this.pipes;
    if (!(await endsWithin(this.#child.exit, endMs))) return `${what}: ${how} does not end`;
    const { code, signal } = await this.#child.exit;
    if (code === 0) return undefined;
    const text = textOf(this.#messages);
    const reason = how === 'xz' && text.includes('Memory usage limit') ? xzNeedsMemory : text;
    return `${what}: ${signal ?? reason} (${how})`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { input, output, inputClosed } = this.pipes;
    if (new Int32Array(inputClosed)[0] === 0) closeFd(input);
    closeFd(output);
    using limited = within(killMs);
    try {
      await kill(this.#child.identity, limited);
    } finally {
      closeFd(this.#messages);
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
function textOf(messages: number): string {
  const bytes = Buffer.alloc(Math.min(fstatSync(messages).size, maxMessageBytes));
  const text = bytes.toString('utf8', 0, readSync(messages, bytes, 0, bytes.length, 0));
  return (
    text
      .trim()
      .replaceAll(/\s*\n\s*/g, '; ')
      .replaceAll(/\p{Cc}/gu, '?') || 'no reason given'
  );
}
