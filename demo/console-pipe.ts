import { execFileSync } from 'node:child_process';
import { constants } from 'node:fs';
import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { openPath } from '#host';

/** A log pipe as Nomad makes one for each stream of a task, with its reader. */
export class ConsolePipe implements Disposable {
  readonly path: string;
  readonly #socket: Socket;

  private constructor(path: string, socket: Socket) {
    this.path = path;
    this.#socket = socket;
  }

  static open(path: string, onLine: (line: string) => void): ConsolePipe {
    execFileSync('mkfifo', ['-m', '600', path]);
    // Read-write: opening does not wait for a writer, and the pipe has no end before we close it.
    const fd = openPath(path, constants.O_RDWR | constants.O_NONBLOCK);
    const socket = new Socket({ fd, readable: true, writable: false });
    createInterface({ input: socket }).on('line', onLine);
    return new ConsolePipe(path, socket);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
