import { readdirSync } from 'node:fs';
import { errnoOf, readSmall, SmallFile } from '#host';
import type { VcpuFigures } from '../domain-figures.ts';

interface VcpuThread {
  readonly index: number;
  /** Of the scheduler: nanoseconds on a CPU, nanoseconds in the queue for one, and a count. */
  readonly file: SmallFile;
}

/** The threads of one QEMU that run its processors, found by the names that QEMU gives them and kept from then on. */
export class Vcpus implements Disposable {
  readonly #pid: number;
  readonly #max: number;
  #threads: readonly VcpuThread[] = [];
  #closed = false;

  constructor(pid: number, max: number) {
    this.#pid = pid;
    this.#max = max;
  }

  /** None where QEMU has ended, or the kernel does not count it. */
  figures(): readonly VcpuFigures[] {
    if (this.#closed) return [];
    try {
      if (this.#threads.length === 0) this.#threads = this.#find();
      return this.#threads.map(({ index, file }) => {
        const [runNs = 0, stealNs = 0] = file.read().split(' ').map(Number);
        return { index, runNs, stealNs };
      });
    } catch {
      this.#close();
      return [];
    }
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#close();
  }

  #close(): void {
    for (const { file } of this.#threads) file[Symbol.dispose]();
    this.#threads = [];
  }

  #find(): readonly VcpuThread[] {
    const tasks = `/proc/${this.#pid}/task`;
    const found = readdirSync(tasks).flatMap((tid) => {
      const name = threadName(`${tasks}/${tid}`);
      // `CPU 0/KVM`, `CPU 0/TCG`, and one thread for all processors where there is only one: `ALL CPUs/TCG`.
      const [, number] = /^(?:CPU (\d+)|ALL CPUs)\/\w+$/m.exec(name) ?? [];
      const named = /^(CPU \d+|ALL CPUs)\//.test(name);
      return named ? [{ index: Number(number ?? 0), path: `${tasks}/${tid}/schedstat` }] : [];
    });
    using opened = new DisposableStack();
    const threads = found
      .toSorted((a, b) => a.index - b.index)
      .slice(0, this.#max)
      .map(({ index, path }) => ({ index, file: opened.use(SmallFile.open(path)) }));
    opened.move();
    return threads;
  }
}

/** Empty for a thread that has ended: QEMU ends those that do its disk's work when they are not needed. */
function threadName(task: string): string {
  try {
    return readSmall(`${task}/comm`);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ESRCH') return '';
    throw error;
  }
}
