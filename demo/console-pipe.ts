import { execFileSync } from 'node:child_process';
import { constants } from 'node:fs';
import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { stripVTControlCharacters } from 'node:util';
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
    const lines = createInterface({ input: socket });
    lines.on('line', (line) => {
      const text = printable(line);
      if (text.trim() !== '') onLine(text);
    });
    return new ConsolePipe(path, socket);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

/** A guest may send what moves a terminal's cursor or worse: nothing but what can be printed is left. */
export function printable(line: string): string {
  return stripVTControlCharacters(line).replaceAll(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, '');
}
