import { execFileSync, spawn } from 'node:child_process';
import { closeSync, mkdirSync } from 'node:fs';
import { connectUnix, findProgram, listenUnix, openTap } from '#host';

const bridge = 'barebr0';

/** The bridge that bare VMs are on: created before the first of them, removed when the scope ends. */
export class BareBridge implements Disposable {
  constructor() {
    ip('link', 'add', bridge, 'type', 'bridge');
    ip('link', 'set', bridge, 'up');
  }

  /** A tap in the bridge; it is removed when its descriptor is closed. */
  async plug(name: string): Promise<number> {
    const { fd } = await openTap(name);
    ip('link', 'set', name, 'master', bridge, 'up');
    return fd;
  }

  [Symbol.dispose](): void {
    ip('link', 'delete', bridge);
  }
}

/** A directory that can be served: QEMU's end is connected, and a virtiofsd will accept it. */
export class BareShare {
  readonly fd: number;
  readonly #path: string;
  readonly #listener: number;
  ended: Promise<unknown> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
    mkdirSync(path);
    this.#listener = listenUnix(`${path}.sock`);
    this.fd = connectUnix(`${path}.sock`);
  }

  /** Starts its virtiofsd, as each start of such a VM must. */
  serve(): void {
    const args = ['--fd=3', '-o', `source=${this.#path}`, '-o', 'cache=auto', '-f'];
    const child = spawn(findProgram('virtiofsd', ['/usr/lib/qemu']) ?? 'virtiofsd', args, {
      stdio: ['ignore', 'ignore', 'ignore', this.#listener],
    });
    this.ended = new Promise((resolve) => child.once('close', resolve));
    closeSync(this.#listener);
  }
}

function ip(...args: readonly string[]): void {
  execFileSync('ip', args);
}
