import { errnoOf, HostError } from '../error.ts';
import { SmallFile } from '../files/small-file.ts';
import { cpuClockNs } from './cpu-clock.ts';
import { isAlive, isRunning, type ProcessIdentity } from './process.ts';

/** A process that is looked at again and again: its file in /proc stays open from the first look on. */
export class WatchedProcess implements Disposable {
  readonly identity: ProcessIdentity;
  #stat: SmallFile | undefined;
  /** Its CPU time before it was last seen alive. */
  #aliveNs: number | undefined;
  #closed = false;

  constructor(identity: ProcessIdentity) {
    this.identity = identity;
  }

  /** As isAlive of its identity, also after disposal. Throws HostError. */
  isAlive(): boolean {
    if (this.#closed) return isAlive(this.identity);
    // A process has to run to end: one whose clock stands still is as it was at the last look.
    const clockNs = cpuClockNs(this.identity.pid);
    if (clockNs !== undefined && clockNs === this.#aliveNs) return true;
    const alive = this.#look();
    this.#aliveNs = alive ? clockNs : undefined;
    return alive;
  }

  #look(): boolean {
    try {
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
