import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { writeIso } from '#cloudinit';
import { connectUnix, findProgram, listenUnix } from '#host';
import { createOverlay } from '#image';
import { sectorImage } from '../test/support/images.ts';

const MiB = 1024 * 1024;

/**
 * The least that starts the same machine: QEMU's arguments taken from a VM of the driver's, every file and socket
 * prepared beforehand. The clock runs from the spawn to the answer of `cont`.
 */
export class BarePath {
  readonly #argv: readonly string[];
  readonly #dir: string;
  readonly #fds: readonly number[];
  readonly #qmp: string;
  readonly #shares: readonly number[];
  #child: ChildProcess | undefined;

  private constructor(o: {
    argv: readonly string[];
    dir: string;
    fds: readonly number[];
    shares: readonly number[];
  }) {
    this.#argv = o.argv;
    this.#dir = o.dir;
    this.#fds = o.fds;
    this.#qmp = join(o.dir, 'qmp.sock');
    this.#shares = o.shares;
  }

  static async prepare(argv: readonly string[]): Promise<BarePath> {
    const dir = mkdtempSync(join(tmpdir(), 'bench-bare-'));
    // A UUID of its own: the driver ends every QEMU with its VM's.
    const ownArgv = argv.with(argv.indexOf('-uuid') + 1, randomUUID());
    const roles = rolesOf(argv);
    const last = Math.max(...roles.keys());
    const fds: number[] = [];
    const shares: number[] = [];
    for (let number = 3; number <= last; number += 1) {
      const role = roles.get(number) ?? 'held';
      fds.push(await open(role, dir, shares));
    }
    return new BarePath({ argv: ownArgv, dir, fds, shares });
  }

  async start(): Promise<number> {
    const journal = openSync(join(this.#dir, 'journal'), 'a');
    const hello = join(this.#dir, 'hello');
    writeFileSync(hello, '{"execute":"qmp_capabilities"}\n');
    const stdin = openSync(hello, 'r');
    const began = performance.now();
    this.#serveShares();
    const [program = '', ...args] = this.#argv;
    const child = spawn(program, args, {
      stdio: [stdin, journal, 'inherit', ...this.#fds],
      env: {},
      detached: true,
    });
    this.#child = child;
    for (const fd of [...this.#fds, stdin, journal]) closeSync(fd);
    await bootOver(connect(this.#qmp));
    return performance.now() - began;
  }

  /** SIGKILL to the end of the process. */
  async kill(): Promise<number> {
    const child = this.#child;
    const began = performance.now();
    const gone = new Promise((resolve) => child?.once('exit', resolve));
    child?.kill('SIGKILL');
    await gone;
    const ms = performance.now() - began;
    rmSync(this.#dir, { recursive: true, force: true });
    return ms;
  }

  #serveShares(): void {
    const program = findProgram('virtiofsd') ?? '';
    for (const [index, listener] of this.#shares.entries()) {
      const source = join(this.#dir, `share${index}`);
      spawn(program, ['--fd=3', '-o', `source=${source}`, '-o', 'cache=auto', '-f'], {
        stdio: ['ignore', 'ignore', 'ignore', listener],
      });
      closeSync(listener);
    }
  }
}

/** What the arguments say of each descriptor number. */
function rolesOf(argv: readonly string[]): ReadonlyMap<number, string> {
  const roles = new Map<number, string>();
  for (const argument of argv) {
    const set = /^fd=(\d+),set=\d+,opaque=(.+)$/.exec(argument);
    const socket = /^socket,id=([^,]+),fd=(\d+)/.exec(argument);
    if (set !== null) roles.set(Number(set[1]), set[2] ?? '');
    if (socket !== null) roles.set(Number(socket[2]), socket[1] ?? '');
  }
  return roles;
}

async function open(role: string, dir: string, shares: number[]): Promise<number> {
  if (role === 'qmp' || role === 'agent') return listenUnix(join(dir, `${role}.sock`));
  if (role === 'console') return openSync(join(dir, 'console'), 'a');
  if (role === 'base') return openSync(sectorImage(0), 'r');
  if (role === 'disk-read') return openSync(join(dir, 'disk'), 'r');
  if (role === 'disk') {
    const fd = openSync(join(dir, 'disk'), 'wx+');
    const base = { path: sectorImage(0), format: 'raw' as const, virtualBytes: MiB };
    await createOverlay({ fd, base, virtualBytes: 64 * MiB });
    return fd;
  }
  if (role === 'seed') {
    const path = join(dir, 'seed');
    writeFileSync(path, writeIso(new Map([['meta-data', Buffer.from('{}')]]), { label: 'cidata' }));
    return openSync(path, 'r');
  }
  if (role.startsWith('share')) {
    mkdirSync(join(dir, role));
    const path = join(dir, `${role}.sock`);
    shares.push(listenUnix(path));
    return connectUnix(path);
  }
  return openSync('/dev/null', 'r');
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
