import { execFileSync, spawn } from 'node:child_process';
import { closeSync, mkdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectUnix, findProgram, listenUnix, openTap } from '#host';

const bridge = 'barebr0';
const readyMs = 10_000;

/** The bridge that bare VMs are on: there before the first of them, gone when the scope ends. */
export class BareBridge implements Disposable {
  constructor() {
    ip('link', 'add', bridge, 'type', 'bridge');
    ip('link', 'set', bridge, 'up');
  }

  /** A tap that is in the bridge; it goes with the descriptor. */
  plug(name: string): number {
    const { fd } = openTap(name);
    ip('link', 'set', name, 'master', bridge, 'up');
    return fd;
  }

  [Symbol.dispose](): void {
    ip('link', 'delete', bridge);
  }
}

/** A virtiofsd that has taken the connection which `fd` is. */
export interface ServedShare {
  readonly fd: number;
  readonly ended: Promise<unknown>;
}

/** Serves a new directory at `path`, and returns when QEMU would not have to wait for it. */
export async function serveShare(path: string): Promise<ServedShare> {
  const socket = `${path}.sock`;
  mkdirSync(path);
  const listener = listenUnix(socket);
  const fd = connectUnix(socket);
  const args = ['--fd=3', '-o', `source=${path}`, '-o', 'cache=auto', '-f'];
  const child = spawn(findProgram('virtiofsd', ['/usr/lib/qemu']) ?? 'virtiofsd', args, {
    stdio: ['ignore', 'ignore', 'ignore', listener],
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  closeSync(listener);
  await accepted(socket);
  return { fd, ended };
}

/** A connection that nobody has taken yet is listed without an inode. */
async function accepted(socket: string): Promise<void> {
  const waits = ` 0 ${socket}`;
  const end = performance.now() + readyMs;
  while (
    readFileSync('/proc/net/unix', 'latin1')
      .split('\n')
      .some((it) => it.endsWith(waits))
  ) {
    if (performance.now() > end) throw new Error(`virtiofsd does not answer at ${socket}`);
    await sleep(2);
  }
}

function ip(...args: readonly string[]): void {
  execFileSync('ip', args);
}
