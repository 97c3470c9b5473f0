import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { lockFile, within } from '#host';
import type { Waiting } from '#spec';

const tryMs = 20;
const sourceForm = /^source-[0-9a-f]{2}$/;

/** Locks of a store, between all tasks and processes. The kernel unlocks that of a killed process. */
export class Locks {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  async take(name: string, waiting: Waiting): Promise<AsyncDisposable> {
    return lockFile(await this.#path(name), waiting);
  }

  /** Runs the action under the lock; false where another one has it. */
  async ifFree(name: string, waiting: Waiting, action: () => Promise<void>): Promise<boolean> {
    const path = await this.#path(name);
    // Nothing is awaited in between: a process that is late tries at least once.
    using moment = within(tryMs, waiting);
    const lock = await lockFile(path, moment).catch(() => undefined);
    waiting.signal.throwIfAborted();
    if (lock === undefined) return false;
    await using _ = lock;
    await action();
    return true;
  }

  async #path(name: string): Promise<string> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    return `${this.#dir}/${name}`;
  }
}

// A fixed number of lock files, since one that was used can't be removed. Who has two takes that of the source first.

/** Of an image, and of the draft that it is made in: by its key, or the name of its source. */
export function imageLock(key: string): string {
  return sourceForm.test(key) ? key : `image-${key.slice(0, 2)}`;
}

/** Of all files of a size, while one of them is imported whose checksum is not known yet. */
export function sourceLock(...parts: readonly (string | number | null)[]): string {
  return `source-${shortHash(JSON.stringify(parts))}`;
}

/** Of a file while its checksum is computed. */
export function checksumLock(path: string): string {
  return `checksum-${shortHash(path)}`;
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 2);
}
