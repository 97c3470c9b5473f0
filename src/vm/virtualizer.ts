import type { VmSpec, Waiting } from '#spec';

/** How a VM ended: exactly what WaitTask reports. Success is exitCode 0, signal 0 and no error. */
export interface ExitResult {
  readonly exitCode: number;
  /** Signal number that ended QEMU, 0 when none did. */
  readonly signal: number;
  readonly oomKilled: boolean;
  /** One sentence for people; undefined when the VM ended as it should. */
  readonly error: string | undefined;
  /** What QEMU, the journal or the kernel said the cause was, e.g. `guest-shutdown`, `guest-panic`, `killed`. */
  readonly reason: string;
}

/** A domain's life, in the words users of the Nomad drivers know. */
export type DomainState = 'starting' | 'running' | 'paused' | 'stopping' | 'exited';

/** A figure that could not be measured is undefined, never 0. */
export interface DomainUsage {
  /** Wall clock of the sample, ms since the epoch. */
  readonly atMs: number;
  readonly cpuUserNs: number;
  readonly cpuSystemNs: number;
  readonly rssBytes: number;
  /** In use inside the guest, from the balloon, when the guest reports it. */
  readonly guestUsedBytes: number | undefined;
  readonly guestTotalBytes: number | undefined;
  readonly swapBytes: number | undefined;
  /** Highest RSS since the start. */
  readonly maxRssBytes: number | undefined;
  /** Process ids that make up the VM (QEMU and its helpers). */
  readonly pids: readonly number[];
}

export interface DomainNetwork {
  readonly ip: string;
  readonly mac: string;
  readonly bridge: string;
  /** Port label → port inside the guest. */
  readonly portMap: Readonly<Record<string, number>>;
}

/** One step of a VM's story, for `nomad alloc status`. */
export interface DomainEvent {
  readonly atMs: number;
  readonly message: string;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface StopRequest {
  /** Time the guest has to power off before it is killed. */
  readonly graceMs: number;
  /** true skips every polite rung. */
  readonly immediately: boolean;
}

/** A VM that was started or adopted by this process. */
export interface Domain {
  readonly name: string;
  readonly state: DomainState;
  readonly startedAtMs: number;
  readonly completedAtMs: number | undefined;
  readonly exit: ExitResult | undefined;
  readonly network: DomainNetwork | undefined;
  /** Facts for InspectTask: pid, ip, mac, sockets, disk. */
  readonly attributes: Readonly<Record<string, string>>;
  /** What another process needs to adopt or remove this VM: plain JSON, no secrets. */
  readonly record: DomainRecord;
  /** Settles once, for every caller alike, when the VM has ended. Rejects only when the signal aborts. */
  wait(waiting: Waiting): Promise<ExitResult>;
  usage(waiting: Waiting): Promise<DomainUsage>;
}

/** The part of a task handle that belongs to the VM. Versioned by the handle around it. */
export interface DomainRecord {
  readonly name: string;
  readonly dir: string;
  readonly pid: number;
  /** /proc/<pid>/stat field 22. */
  readonly startTicks: string;
  readonly bootId: string;
}

export interface VirtualizerInfo {
  readonly healthy: boolean;
  /** Words for the operator; 'Healthy' when fine. */
  readonly description: string;
  /** false when there is no emulator at all. */
  readonly detected: boolean;
  /** Keys without the driver's prefix, e.g. `emulator.version`; values for the node's attributes. */
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
}

/**
 * What runs VMs, with the names and duties of the Go driver's `Virtualizer`; one backend, QEMU. Ours also reports what
 * is wrong before anything is made, adopts what an earlier process started, and passes on what happens to a VM.
 */
export interface Virtualizer {
  /** Makes ready to serve from this data directory; touches nothing that another instance may be using. */
  start(dataDir: string): Promise<void>;
  /** Everything wrong with what is asked for that shows before anything is made, each beginning with its key. */
  problemsOf(spec: VmSpec, waiting: Waiting): Promise<readonly string[]>;
  createDomain(spec: VmSpec, waiting: Waiting): Promise<Domain>;
  /** Adopts a VM that an earlier process started. undefined when nothing of it is left. */
  recoverDomain(
    record: DomainRecord,
    spec: RecoverSpec,
    waiting: Waiting,
  ): Promise<Domain | undefined>;
  /** Climbs down the stop ladder and returns once the VM has ended. An unknown or ended VM is fine. */
  stopDomain(name: string, request: StopRequest): Promise<void>;
  /** Kills what runs and undoes everything the VM had on this host, from disk alone if need be. Idempotent. */
  destroyDomain(name: string): Promise<void>;
  getInfo(waiting: Waiting): Promise<VirtualizerInfo>;
  /** The story of one VM as it happens; every listener gets every event. Returns the function that ends it. */
  onEvent(listener: (name: string, event: DomainEvent) => void): () => void;
}

/** What must come from Nomad again at recovery: where the logs go. */
export interface RecoverSpec {
  readonly stdoutPath: string;
  readonly stderrPath: string;
}

/** The VMs of this process by name, as in the Go driver; undefined for any other. */
export interface DomainGetter {
  getDomain(name: string): Domain | undefined;
}
