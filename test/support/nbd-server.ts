import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { patient } from './patience.ts';

type Address = { readonly path: string } | { readonly host: string; readonly port: number };

/** A real qemu-nbd that serves one raw file; it can be killed and started again. */
export class NbdServer implements AsyncDisposable {
  readonly #args: readonly string[];
  readonly #address: Address;
  #child: ChildProcess | undefined;

  private constructor(file: string, address: Address) {
    this.#address = address;
    const at =
      'path' in address
        ? ['--socket', address.path]
        : ['--bind', address.host, '--port', String(address.port)];
    this.#args = [...at, '--format=raw', '--persistent', '--shared=4', '--export-name=data', file];
  }

  static async start(file: string, address: Address): Promise<NbdServer> {
    const server = new NbdServer(file, address);
    await server.begin();
    return server;
  }

  async begin(): Promise<void> {
    this.#child = spawn('qemu-nbd', this.#args, { stdio: 'inherit' });
    const end = performance.now() + patient(10_000);
    for (;;) {
      if (await this.#answers()) return;
      if (performance.now() > end) throw new Error('qemu-nbd does not answer');
      await sleep(25);
    }
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }

  async #answers(): Promise<boolean> {
    if ('path' in this.#address && !existsSync(this.#address.path)) return false;
    const socket = connect(this.#address);
    try {
      await once(socket, 'connect');
      return true;
    } catch {
      return false;
    } finally {
      socket.destroy();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
