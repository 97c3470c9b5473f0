import type { VmSpec, Waiting } from '#spec';
import type { DomainFigures, DomainUsage } from './domain-figures.ts';

/** How a VM ended: exactly what WaitTask reports. Success is exitCode 0, signal 0 and no error. */
export interface ExitResult {
  readonly exitCode: number;
  /** Signal number that ended QEMU, 0 when none did. */
  readonly signal: number;
  readonly oomKilled: boolean;
  /** One sentence for the task's events; undefined when the VM ended as it should. */
  readonly error: string | undefined;
  /** The cause that QEMU, the journal or the kernel reported, e.g. `guest-shutdown`, `guest-panic`, `killed`. */
  readonly reason: string;
}

/** The states of a domain, by the names that users of the Nomad drivers know. */
export type DomainState = 'starting' | 'running' | 'paused' | 'stopping' | 'exited';

export interface DomainNetwork {
  readonly ip: string;
  readonly mac: string;
  /** The bridge that it is in. */
  readonly bridge?: string;
  /** The network namespace of the allocation, where it is in that. */
  readonly netns?: string;
  /** Port label → port inside the guest. */
  readonly portMap: Readonly<Record<string, number>>;
}

/** An event of a VM, for `nomad alloc status`. */
export interface DomainEvent {
  readonly atMs: number;
  readonly message: string;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface StopRequest {
  /** Time that the guest has to power off before it is killed. */
  readonly graceMs: number;
  /** true kills QEMU without asking the guest. */
  readonly immediately: boolean;
}

/** A terminal's size in characters. */
export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
}

export interface ExecRequest {
  /** Program and arguments; no shell is involved. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Whether the command has a terminal. There is one stream then, stdout. */
  readonly terminal: boolean;
}

/** How a command ended; one that a signal ended has the code 128 and the signal's number, as in a shell. */
export interface CommandExit {
  readonly exitCode: number;
  readonly signal: number;
}

/**
 * A command that runs in the guest. Disposing of it ends what of it still runs there, and removes its streams; the VM
 * finishes that on its own.
 */
export interface GuestCommand extends Disposable {
  /**
   * Its output, in the order of each stream, until it has ended or is lost. What is not read makes the command wait.
   */
  readonly output: AsyncIterable<{
    readonly stream: 'stdout' | 'stderr';
    readonly data: Uint8Array;
  }>;
  /** How it ended; to be called after the output has ended. Throws VmError when it was lost, or disposed of. */
  exit(waiting: Waiting): Promise<CommandExit>;
  /** Returns when the bytes are on their way and more may be written. Input that the command no longer reads is dropped. */
  write(data: Uint8Array, waiting: Waiting): Promise<void>;
  endInput(): void;
  /** Of several the last one counts. */
  resize(size: TerminalSize): void;
}

/** What can be done to a guest that runs; `nmi` is an interrupt that makes it dump or panic, as its system is set up. */
export type GuestAction = 'pause' | 'resume' | 'reset' | 'nmi';

/** What a guest's screen shows. */
export interface Screenshot {
  readonly format: 'png' | 'ppm';
  readonly data: Uint8Array;
}

/** A VM that was started or adopted by this process. */
export interface Domain {
  readonly name: string;
  readonly state: DomainState;
  readonly startedAtMs: number;
  readonly completedAtMs: number | undefined;
  readonly exit: ExitResult | undefined;
  readonly network: DomainNetwork | undefined;
  /** Labels of the ports of the host at which it is reached. */
  readonly publishedPorts: readonly string[];
  /** The command in the guest that SIGHUP means, if it means any. */
  readonly onHangUp: readonly string[] | undefined;
  /** Facts for InspectTask: pid, ip, mac, sockets, disk. */
  readonly attributes: Readonly<Record<string, string>>;
  /** What another process needs to adopt or remove this VM: plain JSON, no secrets. */
  readonly record: DomainRecord;
  /** Settles when the VM has ended, with the same result for every caller. Rejects only when the signal aborts. */
  wait(waiting: Waiting): Promise<ExitResult>;
  usage(waiting: Waiting): Promise<DomainUsage>;
  /** All that is known of it; a little old, where QEMU had to be asked. */
  figures(waiting: Waiting): Promise<DomainFigures>;
  /** Starts a command in the guest. Throws VmError that names what the guest lacks for it. */
  exec(request: ExecRequest, waiting: Waiting): Promise<GuestCommand>;
  /** Throws VmError where the VM has no screen, or QEMU does not answer. */
  screenshot(waiting: Waiting): Promise<Screenshot>;
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
  /** For the operator: every problem of the host; 'Healthy' when there is none. */
  readonly description: string;
  /** false when there is no emulator at all. */
  readonly detected: boolean;
  /** Keys without the driver's prefix, e.g. `emulator.version`; values for the node's attributes. */
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
}

/**
 * What runs VMs, with the names and duties of the Go driver's `Virtualizer`; the one backend is QEMU. Ours also reports
 * the problems of a spec before anything is created, adopts what an earlier process started, and reports the events of
 * VMs.
 */
export interface Virtualizer {
  /** Prepares to serve from its data directory; changes nothing that another instance may be using. */
  start(): Promise<void>;
  /** Every problem of a spec that can be found before anything is created, each beginning with its key. */
  problemsOf(spec: VmSpec, waiting: Waiting): Promise<readonly string[]>;
  /**
   * Makes a VM, after removing what is left of an earlier start of it: Nomad starts the same task again when the plugin
   * ended in the middle of it. Removes its own when it fails.
   */
  createDomain(spec: VmSpec, waiting: Waiting): Promise<Domain>;
  /** Adopts a VM that an earlier process started; undefined when nothing of it is left. */
  recoverDomain(
    record: DomainRecord,
    spec: RecoverSpec,
    waiting: Waiting,
  ): Promise<Domain | undefined>;
  /**
   * Stops the VM and returns once it has ended: by asking the guest, then QEMU, then by signals. Does nothing for an
   * unknown or ended VM.
   */
  stopDomain(name: string, request: StopRequest): Promise<void>;
  /** Does it, and returns when QEMU has. Throws VmError for a VM that has ended or whose QEMU does not answer. */
  actOnDomain(name: string, action: GuestAction, waiting: Waiting): Promise<void>;
  /**
   * Kills the VM's processes and undoes everything that it has on this host, if necessary from disk alone. Idempotent.
   */
  destroyDomain(name: string): Promise<void>;
  getInfo(waiting: Waiting): Promise<VirtualizerInfo>;
  /** Calls the listener with every event of every VM. Returns the function that removes the listener. */
  onEvent(listener: (name: string, event: DomainEvent) => void): () => void;
}

/** What Nomad must provide again at recovery: where the logs go. */
export interface RecoverSpec {
  readonly stdoutPath: string;
  readonly stderrPath: string;
}

/** The VMs of this process by name, as in the Go driver; undefined for any other. */
export interface DomainGetter {
  getDomain(name: string): Domain | undefined;
}
