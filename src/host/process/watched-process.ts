import { errnoOf, HostError } from '../error.ts';
import { SmallFile } from '../files/small-file.ts';
import { isAlive, isRunning, type ProcessIdentity } from './process.ts';

/** A process that is looked at again and again: its file in /proc stays open from the first look on. */
export class WatchedProcess implements Disposable {
  readonly identity: ProcessIdentity;
  #stat: SmallFile | undefined;
  #closed = false;

  constructor(identity: ProcessIdentity) {
    this.identity = identity;
  }

  /** As isAlive of its identity, also after disposal. Throws HostError. */
  isAlive(): boolean {
    try {
      if (this.#closed) return isAlive(this.identity);
      if (this.#stat !== undefined) return isRunning(this.#stat.read());
      this.#stat = SmallFile.open(`/proc/${this.identity.pid}/stat`);
      // After the file is open: from then on it is that of this process or of none.
      if (isAlive(this.identity)) return true;
    } catch (error) {
      if (error instanceof HostError) throw error;
      const { pid } = this.identity;
      if (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ESRCH') {
        throw new HostError(`reading the state of process ${pid}`, { cause: error });
      }
    }
    this[Symbol.dispose]();
    return false;
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#stat?.[Symbol.dispose]();
    this.#stat = undefined;
  }
}
