import { Beat, endsWithin, type Logger, WatchedProcess } from '#host';
import type { Waiting } from '#spec';
import type { VmRecord } from '../store/record.ts';
import type { Emit } from '../task-event.ts';
import { seemsAlive } from './liveness.ts';

const lookMs = 2000;
/** QEMU's end takes its helpers along, and may be noticed after theirs. */
const qemuEndMs = 1000;

/** The grace of a guest whose shared directories are gone: what it waits for there never comes. */
const hungGraceMs = 10_000;

/** The processes that serve the VM's shared directories. QEMU does not connect to a new one in the place of one that ended. */
export class Helpers {
  readonly #processes: readonly WatchedProcess[];
  readonly #log: Logger;

  constructor({ helpers = [] }: Pick<VmRecord, 'helpers'>, bootId: string, log: Logger) {
    this.#processes = helpers.map((helper) => new WatchedProcess({ ...helper, bootId }));
    this.#log = log;
  }

  get lost(): boolean {
    return this.#processes.some((it) => !seemsAlive(it.identity, this.#log, () => it.isAlive()));
  }

  /** How long a stop waits for the guest, of the time that it has. */
  limit(graceMs: number): number {
    return this.lost ? Math.min(graceMs, hungGraceMs) : graceMs;
  }

  /** Reports the first one that ends before QEMU does. */
  async watch(ended: Promise<unknown>, emit: Emit, released: Waiting): Promise<void> {
    if (this.#processes.length === 0) return;
    released.signal.addEventListener('abort', () => this.#close(), { once: true });
    const beat = new Beat(lookMs, released);
    do {
      if (!(await beat.next())) return;
    } while (!this.lost);
    if ((await endsWithin(ended, qemuEndMs)) || released.signal.aborted) return;
    emit(
      'virtiofsd has ended: processes of the guest wait for its shared directories; restart the task',
    );
  }

  #close(): void {
    for (const process of this.#processes) process[Symbol.dispose]();
  }
}
