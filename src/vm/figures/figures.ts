import { abortable, type ProcessIdentity, within } from '#host';
import { balloonId, throttleNode } from '#qemu';
import { figure, type QmpClient } from '#qmp';
import type { Waiting } from '#spec';
import type { DiskFigures, DomainFigures, DomainUsage, GuestFigures } from '../domain-figures.ts';
import type { AdoptedNic, RecordedDisk } from '../store/device-record.ts';
import { adoptedNicsOf, disksOf, type VmRecord } from '../store/record.ts';
import { Asked } from './asked.ts';
import { nicFigures } from './links.ts';
import { Processes } from './processes.ts';
import { guestMemory, parseGuestStatistics } from './stats.ts';
import { Throttling } from './throttling.ts';
import { Vcpus } from './vcpus.ts';

const MiB = 1024 * 1024;
const answerMs = 500;
/** To wake up QEMU for a question costs more than all else of a sample. */
const keptMs = 5000;

export interface FiguresOptions {
  readonly record: VmRecord;
  readonly identity: ProcessIdentity;
  readonly helpers: readonly ProcessIdentity[];
  /** undefined while there is no connection. */
  readonly qmp: () => QmpClient | undefined;
}

/** What QEMU answers. */
type Answers = readonly [guest: GuestFigures, disks: readonly DiskFigures[]];

/**
 * What is measured of one VM. The kernel's counters are read at each call; QEMU is asked only for what the kernel does not
 * know, at most every five seconds, and a QEMU that does not answer leaves it out. Never fails.
 */
export class Figures {
  readonly #options: FiguresOptions;
  readonly #pids: readonly number[];
  readonly #nics: readonly AdoptedNic[];
  readonly #processes: Processes;
  readonly #throttling: Throttling;
  readonly #vcpus: Vcpus;
  readonly #guest: Asked<GuestFigures>;
  readonly #disks: Asked<readonly DiskFigures[]>;

  /** Keeps files of the kernel open until the signal aborts; afterwards there are no figures of them. */
  constructor(options: FiguresOptions, { signal }: Waiting) {
    const { record, identity, helpers } = options;
    this.#options = options;
    this.#pids = [identity, ...helpers].map(({ pid }) => pid);
    this.#nics = adoptedNicsOf(record);
    this.#processes = new Processes(identity, helpers);
    this.#throttling = new Throttling(record.cgroup);
    this.#vcpus = new Vcpus(identity.pid, record.vcpus);
    this.#guest = new Asked(() => askGuest(options.qmp()), keptMs);
    const disks = disksOf(record);
    this.#disks = new Asked(() => askDisks(options.qmp(), disks), keptMs);
    signal.addEventListener('abort', () => this.#close(), { once: true });
  }

  async usage(waiting: Waiting): Promise<DomainUsage> {
    const guest = this.#guest.known ?? (await abortable(this.#guest.get(), waiting));
    const used = guestMemory(guest, this.#options.record.memoryMiB * MiB);
    return {
      atMs: Date.now(),
      ...this.#processes.usage(),
      guestUsedBytes: used?.usedBytes,
      guestTotalBytes: used?.totalBytes,
      throttling: this.#throttling.read(),
      pids: this.#pids,
    };
  }

  async all(waiting: Waiting): Promise<DomainFigures> {
    const { record } = this.#options;
    const [guest, disks] = this.#known ?? (await abortable(this.#ask(), waiting));
    return {
      identity: record,
      usage: await this.usage(waiting),
      vcpus: this.#vcpus.figures(),
      disks,
      nics: nicFigures(this.#nics),
      guest,
    };
  }

  get #known(): Answers | undefined {
    const [guest, disks] = [this.#guest.known, this.#disks.known];
    return guest && disks && [guest, disks];
  }

  #ask(): Promise<Answers> {
    const ask = (): Promise<Answers> => Promise.all([this.#guest.get(), this.#disks.get()]);
    return this.#options.qmp()?.together(ask) ?? ask();
  }

  #close(): void {
    this.#processes[Symbol.dispose]();
    this.#throttling[Symbol.dispose]();
    this.#vcpus[Symbol.dispose]();
  }
}

async function askGuest(qmp: QmpClient | undefined): Promise<GuestFigures> {
  using limited = within(answerMs);
  try {
    const path = `/machine/peripheral/${balloonId}`;
    return parseGuestStatistics(
      await qmp?.execute('qom-get', { path, property: 'guest-stats' }, limited),
    );
  } catch {
    return {};
  }
}

async function askDisks(
  qmp: QmpClient | undefined,
  disks: readonly RecordedDisk[],
): Promise<readonly DiskFigures[]> {
  using limited = within(answerMs);
  try {
    const counted = (await qmp?.execute('query-blockstats', {}, limited)) ?? [];
    const byNode = new Map(counted.map((entry) => [entry['node-name'], entry.stats]));
    return disks.flatMap(({ id, name = id }) => {
      const stats = byNode.get(id) ?? byNode.get(throttleNode(id));
      if (stats === undefined) return [];
      return [
        {
          name,
          readBytes: figure(stats.rd_bytes) ?? 0,
          writtenBytes: figure(stats.wr_bytes) ?? 0,
          reads: figure(stats.rd_operations) ?? 0,
          writes: figure(stats.wr_operations) ?? 0,
          flushes: figure(stats.flush_operations) ?? 0,
          readErrors: figure(stats.failed_rd_operations) ?? 0,
          writeErrors: figure(stats.failed_wr_operations) ?? 0,
        },
      ];
    });
  } catch {
    return [];
  }
}
