import { randomBytes } from 'node:crypto';
import { closeSync, constants, readFileSync, watch, writeSync } from 'node:fs';
import { openPath } from '#host';
import { messageOf } from '../error.ts';
import type { LiveVm } from './live-vm.ts';

const pollMs = 5000;

/**
 * Which plugin process manages a VM. Nomad starts a second process beside the first one when it can't reach that any
 * more; then both would forward the log, and only one can be connected to QEMU's monitor. The newest process owns the
 * VM: each writes its mark into a file, and releases the VM when it finds another mark there.
 */
export class Ownership implements Disposable {
  readonly #path: string;
  readonly #mark = randomBytes(8).toString('hex');
  readonly #end: () => void;

  private constructor(path: string, onLost: () => void) {
    this.#path = path;
    this.#write();
    const check = (): void => {
      if (!this.#lost()) return;
      this[Symbol.dispose]();
      onLost();
    };
    this.#end = watchOrPoll(path, check);
  }

  /** Takes over the VM. Throws HostError when the VM's directory does not exist. */
  static take(path: string, onLost: () => void): Ownership {
    return new Ownership(path, onLost);
  }

  [Symbol.dispose](): void {
    this.#end();
  }

  /** In place: the file keeps its one page, so that it can be written even when the VM's tmpfs is full. */
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

function watchOrPoll(path: string, check: () => void): () => void {
  try {
    const watcher = watch(path, { persistent: false }, check);
    watcher.on('error', check);
    return () => watcher.close();
  } catch {
    const timer = setInterval(check, pollMs).unref(); // no inotify watches are left
    return () => clearInterval(timer);
  }
}

/** Takes over the VM as far as its directory still exists; `release` is called when another process does. */
export function takeOver(
  { record: { name }, paths, log }: Pick<LiveVm, 'record' | 'paths' | 'log'>,
  release: () => Promise<void>,
): Ownership | undefined {
  try {
    return Ownership.take(paths.owner, () => {
      log.warn('another plugin process has taken over the VM', { vm: name });
      void release();
    });
  } catch (error) {
    log.debug('ownership not recorded', { vm: name, error: messageOf(error) });
    return undefined;
  }
}
