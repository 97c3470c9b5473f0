import { randomBytes } from 'node:crypto';
import { closeSync, constants, readFileSync, watch, writeSync } from 'node:fs';
import { openPath } from '#host';

const pollMs = 5000;

/**
 * Which plugin process looks after a VM. Nomad starts a second one beside the first when it can't reach that any more;
 * then both would pass on the log, and only one can have QEMU's monitor. The newest has it: each writes its mark into
 * a file, and lets go when it finds another one's there.
 */
export class Ownership implements Disposable {
  readonly #path: string;
  readonly #mark = randomBytes(8).toString('hex');
  readonly #end: () => void;

  private constructor(path: string, onLost: () => void) {
    this.#path = path;
    this.#write();
    const look = (): void => {
      if (!this.#lost()) return;
      this[Symbol.dispose]();
      onLost();
    };
    this.#end = watchOrPoll(path, look);
  }

  /** Takes the VM over. Throws HostError when the VM's directory is gone. */
  static take(path: string, onLost: () => void): Ownership {
    return new Ownership(path, onLost);
  }

  [Symbol.dispose](): void {
    this.#end();
  }

  /** In place: the file keeps its one page, so that it can be written however full the VM's tmpfs is. */
  #write(): void {
    const fd = openPath(this.#path, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW);
    try {
      writeSync(fd, this.#mark, 0);
    } finally {
      closeSync(fd);
    }
  }

  #lost(): boolean {
    try {
      return readFileSync(this.#path, 'latin1') !== this.#mark;
    } catch {
      return false; // the VM is being removed
    }
  }
}

function watchOrPoll(path: string, look: () => void): () => void {
  try {
    const watcher = watch(path, { persistent: false }, look);
    watcher.on('error', look);
    return () => watcher.close();
  } catch {
    const timer = setInterval(look, pollMs).unref(); // out of inotify watches
    return () => clearInterval(timer);
  }
}
