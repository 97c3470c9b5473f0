import { cpuClockNs, isAlive, type ProcessIdentity, SmallFile } from '#host';
import { type CpuFigures, type MemoryFigures, parseStat, parseStatus } from './stats.ts';

/** A look at the memory costs twice that at the CPU time. */
const qemuMemoryMs = 2000;
/** That of a process that serves a device changes little. */
const helperMemoryMs = 5000;
/** A process that does not run takes no memory; the kernel may take some of it. */
const restingMemoryMs = 30_000;

export interface ProcessesUsage {
  readonly cpuUserNs: number;
  readonly cpuSystemNs: number;
  readonly rssBytes: number;
  readonly maxRssBytes: number | undefined;
  readonly swapBytes: number | undefined;
}

/** The processes of one VM. Their files in /proc stay open from the first sample on. */
export class Processes implements Disposable {
  readonly #measured: readonly MeasuredProcess[];

  constructor(qemu: ProcessIdentity, helpers: readonly ProcessIdentity[]) {
    this.#measured = [
      new MeasuredProcess(qemu, qemuMemoryMs),
      ...helpers.map((helper) => new MeasuredProcess(helper, helperMemoryMs)),
    ];
  }

  /** The sum of their figures; processes that have ended are left out. */
  usage(): ProcessesUsage {
    let [cpuUserNs, cpuSystemNs, rssBytes] = [0, 0, 0];
    let [maxRssBytes, swapBytes]: (number | undefined)[] = [];
    for (const process of this.#measured) {
      const found = process.figures();
      if (found === undefined) continue;
      cpuUserNs += found.cpu.userNs;
      cpuSystemNs += found.cpu.systemNs;
      rssBytes += found.memory.rssBytes;
      maxRssBytes = sumKnown(maxRssBytes, found.memory.maxRssBytes);
      swapBytes = sumKnown(swapBytes, found.memory.swapBytes);
    }
    return { cpuUserNs, cpuSystemNs, rssBytes, maxRssBytes, swapBytes };
  }

  [Symbol.dispose](): void {
    for (const process of this.#measured) process[Symbol.dispose]();
  }
}

interface Files {
  readonly stat: SmallFile;
  readonly status: SmallFile;
}

/** One process, for as long as it is that process. */
export class MeasuredProcess implements Disposable {
  readonly #identity: ProcessIdentity;
  readonly #memoryKeptMs: number;
  #files: Files | undefined;
  #cpu: CpuFigures | undefined;
  #clockNs: number | undefined;
  #memory: MemoryFigures | undefined;
  #memoryReadMs = Number.NEGATIVE_INFINITY;
  #memoryMayDiffer = true;
  #closed = false;

  /** Its memory is read again after `memoryKeptMs`, its CPU time as soon as it has used some. */
  constructor(identity: ProcessIdentity, memoryKeptMs: number) {
    this.#identity = identity;
    this.#memoryKeptMs = memoryKeptMs;
  }

  /** Undefined when it has ended, or can't be read now. */
  figures(): { readonly cpu: CpuFigures; readonly memory: MemoryFigures } | undefined {
    if (this.#closed) return undefined;
    try {
      this.#files ??= this.#open();
      const { stat, status } = this.#files;
      // Most processes that serve a device rest, and their clock is had for a tenth of what a file of theirs costs. It is
      // read before the files, so that what is used in between shows at the next look.
      const clockNs = cpuClockNs(this.#identity.pid);
      const rests = clockNs !== undefined && clockNs === this.#clockNs;
      const figures = {
        cpu: this.#readCpu(stat, rests),
        memory: this.#readMemory(status, rests),
      };
      this.#clockNs = clockNs;
      return figures;
    } catch {
      this.#close();
      return undefined;
    }
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#close();
  }

  #readCpu(stat: SmallFile, rests: boolean): CpuFigures {
    if (this.#cpu === undefined || !rests) this.#cpu = parseStat(stat.read());
    return this.#cpu;
  }

  #readMemory(status: SmallFile, rests: boolean): MemoryFigures {
    const nowMs = performance.now();
    this.#memoryMayDiffer ||= !rests;
    const keptMs = this.#memoryMayDiffer ? this.#memoryKeptMs : restingMemoryMs;
    if (this.#memory === undefined || nowMs - this.#memoryReadMs >= keptMs) {
      this.#memory = parseStatus(status.read());
      this.#memoryReadMs = nowMs;
      this.#memoryMayDiffer = false;
    }
    return this.#memory;
  }

  #open(): Files {
    const { pid } = this.#identity;
    using opened = new DisposableStack();
    const stat = opened.use(SmallFile.open(`/proc/${pid}/stat`));
    const status = opened.use(SmallFile.open(`/proc/${pid}/status`));
    // After the files are open: from then on they are those of this process or of none.
    if (!isAlive(this.#identity)) throw new Error(`process ${pid} has ended`);
    opened.move();
    return { stat, status };
  }

  #close(): void {
    this.#files?.stat[Symbol.dispose]();
    this.#files?.status[Symbol.dispose]();
    this.#files = undefined;
  }
}

function sumKnown(total: number | undefined, value: number | undefined): number | undefined {
  return value === undefined ? total : (total ?? 0) + value;
}
