import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { writeIso } from '#cloudinit';
import { listenUnix } from '#host';
import { imageHandler } from '#image';
import { sectorImage } from '../test/support/images.ts';
import { type BareBridge, BareShare } from './bare-host.ts';
import { ConsolePipe } from './console-pipe.ts';
import type { Times } from './figures.ts';

const MiB = 1024 * 1024;

/**
 * The minimum that starts the same machine: QEMU's arguments taken from a VM of the driver's, every file, socket, tap and
 * share prepared beforehand. The clock runs from the spawn to the answer of `cont`, and on to the guest's first byte.
 */
export class BarePath {
  readonly #argv: readonly string[];
  readonly #dir: string;
  readonly #console: ConsolePipe;
  readonly #shares: BareShare[] = [];
  readonly #fds: number[] = [];
  #child: ChildProcess | undefined;

  private constructor(argv: readonly string[]) {
    // A UUID of its own: the driver kills every QEMU that has its VM's.
    this.#argv = argv.with(argv.indexOf('-uuid') + 1, randomUUID());
    this.#dir = mkdtempSync(join(tmpdir(), 'bench-bare-'));
    this.#console = new ConsolePipe(join(this.#dir, 'console'));
  }

  static async prepare(argv: readonly string[], bridge: BareBridge): Promise<BarePath> {
    const bare = new BarePath(argv);
    const roles = rolesOf(argv);
    const last = Math.max(...roles.keys());
    for (let number = 3; number <= last; number += 1) {
      bare.#fds.push(await bare.#open(roles.get(number) ?? 'held', bridge));
    }
    return bare;
  }

  /** Start, first byte, and the end by SIGKILL. */
  async run(): Promise<Times> {
    const journal = openSync(join(this.#dir, 'journal'), 'a');
    const hello = join(this.#dir, 'hello');
    writeFileSync(hello, '{"execute":"qmp_capabilities"}\n');
    const stdin = openSync(hello, 'r');
    const began = performance.now();
    const [program = '', ...args] = this.#argv;
    const child = spawn(program, args, {
      stdio: [stdin, journal, 'inherit', ...this.#fds],
      env: {},
      detached: true,
    });
    this.#child = child;
    for (const fd of [...this.#fds, stdin, journal]) closeSync(fd);
    // After QEMU, which uses them late in its own start: no order is faster.
    for (const share of this.#shares) share.serve();
    await bootOver(connect(join(this.#dir, 'qmp.sock')));
    const startMs = performance.now() - began;
    const firstByteMs = (await this.#console.firstByteAt) - began;
    return { startMs, firstByteMs, killMs: await this.#kill() };
  }

  async #kill(): Promise<number> {
    const child = this.#child;
    const began = performance.now();
    const gone = new Promise((resolve) => child?.once('exit', resolve));
    child?.kill('SIGKILL');
    await gone;
    const ms = performance.now() - began;
    await Promise.all(this.#shares.map(({ ended }) => ended));
    this.#console[Symbol.dispose]();
    rmSync(this.#dir, { recursive: true, force: true });
    return ms;
  }

  async #open(role: string, bridge: BareBridge): Promise<number> {
    const path = join(this.#dir, role);
    if (role.endsWith('.sock')) return listenUnix(path);
    if (role === 'console') return this.#console.openWriter();
    if (role.endsWith('-log')) return openSync(path, 'a');
    if (role === 'base') return openSync(sectorImage(0), 'r');
    if (role === 'disk-read') return openSync(join(this.#dir, 'disk'), 'r');
    if (role === 'disk') {
      const fd = openSync(path, 'wx+');
      const base = { path: sectorImage(0), format: 'raw' as const, virtualBytes: MiB };
      await imageHandler.createThinCopy({ fd, base, virtualBytes: 64 * MiB });
      return fd;
    }
    if (role === 'seed') {
      const files = new Map([['meta-data', Buffer.from('{}')]]);
      writeFileSync(path, writeIso(files, { label: 'cidata' }));
      return openSync(path, 'r');
    }
    if (role.startsWith('tap')) return bridge.plug(`bare-${role}`);
    if (role.startsWith('share')) {
      const share = new BareShare(path);
      this.#shares.push(share);
      return share.fd;
    }
    return openSync('/dev/null', 'r');
  }
}

/** The role of each descriptor number, from QEMU's arguments; that of a socket which QEMU listens on ends in `.sock`. */
function rolesOf(argv: readonly string[]): ReadonlyMap<number, string> {
  const roles = new Map<number, string>();
  for (const argument of argv) {
    const set = /^fd=(\d+),set=\d+,opaque=(.+)$/.exec(argument);
    const socket = /^socket,id=([^,]+),fd=(\d+)(,server=on)?/.exec(argument);
    const tap = /^tap,id=net(\d+),fd=(\d+)/.exec(argument);
    if (set !== null) roles.set(Number(set[1]), set[2] ?? '');
    if (socket !== null) {
      const [, id = '', fd, server] = socket;
      roles.set(Number(fd), server === undefined ? id : `${id}.sock`);
    }
    if (tap !== null) roles.set(Number(tap[2]), `tap${tap[1]}`);
  }
  return roles;
}

/** Greeting, capabilities, status, cont: the guest runs. */
async function bootOver(socket: Socket): Promise<void> {
  const commands = ['qmp_capabilities', 'query-status', 'cont'];
  let sent = 0;
  for await (const line of createInterface(socket)) {
    if (!line.includes('"QMP"') && !line.includes('"return"')) continue;
    const command = commands[sent];
    if (command === undefined) break;
    socket.write(`${JSON.stringify({ execute: command })}\n`);
    sent += 1;
  }
  socket.destroy();
}
