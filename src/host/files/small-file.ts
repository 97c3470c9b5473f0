import { closeSync, openSync, readSync } from 'node:fs';

/** Shared by all reads: each ends before the next one begins. */
let buffer = Buffer.alloc(8192);

/**
 * The text of a file that the kernel makes at each read, as those of /proc and of control groups: with three system calls,
 * where readFileSync makes five. Throws as that does.
 */
export function readSmall(path: string): string {
  using file = SmallFile.open(path);
  return file.read();
}

/**
 * Such a file kept open: a read is one system call, without the search for its path, which takes longer than the read. One of
 * /proc/<pid> belongs to its process for as long as it is open, and to no later process with the same pid: reads are ESRCH then.
 */
export class SmallFile implements Disposable {
  readonly #fd: number;
  #open = true;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Throws as openSync does. */
  static open(path: string): SmallFile {
    return new SmallFile(openSync(path, 'r'));
  }

  /** Its text now, from the beginning. Throws as readSync does. */
  read(): string {
    if (!this.#open) throw new Error('this file is closed');
    for (let length = 0; ; buffer = Buffer.concat([buffer], 2 * buffer.length)) {
      length += readSync(this.#fd, buffer, length, buffer.length - length, length);
      if (length < buffer.length) return buffer.toString('latin1', 0, length);
    }
  }

  [Symbol.dispose](): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }
}
