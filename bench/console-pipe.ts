import { execFileSync } from 'node:child_process';
import { constants, openSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';

/** A FIFO for a guest's console, read as Nomad's log collector reads its own. */
export class ConsolePipe implements Disposable {
  readonly path: string;
  /** When the guest's first byte came, on `performance.now()`'s clock. */
  readonly firstByteAt: Promise<number>;
  readonly #reader: Socket;

  constructor(path: string) {
    this.path = path;
    execFileSync('mkfifo', ['-m', '600', path]);
    // Open for reading and writing, so that there is no end of file before the first writer or between two.
    const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    this.#reader = new Socket({ fd, readable: true, writable: false });
    this.firstByteAt = new Promise((resolve, reject) => {
      this.#reader.once('data', () => resolve(performance.now()));
      this.#reader.once('error', reject);
    });
    this.#reader.resume();
  }

  /** A write-only descriptor: for a QEMU that inherits its console's log. */
  openWriter(): number {
    return openSync(this.path, constants.O_WRONLY);
  }

  [Symbol.dispose](): void {
    this.#reader.destroy();
    rmSync(this.path, { force: true });
  }
}
