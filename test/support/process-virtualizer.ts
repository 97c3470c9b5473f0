import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  identify,
  isAlive,
  kill,
  type ProcessIdentity,
  pidfdSignal,
  type SpawnedProcess,
  spawnDetached,
} from '#host';
import type { VmSpec, Waiting } from '#spec';
import type {
  Domain,
  DomainEvent,
  DomainFigures,
  DomainGetter,
  DomainRecord,
  DomainUsage,
  ExitResult,
  GuestAction,
  GuestCommand,
  StopRequest,
  Virtualizer,
  VirtualizerInfo,
} from '#vm';
import { VmError } from '../../src/vm/error.ts';
import type { ExecRequest } from '../../src/vm/virtualizer.ts';
import { imageOf } from './disks.ts';
import { failures } from './failures.ts';
import { ProcessCommand } from './process-command.ts';

const nobody = {
  taskId: '',
  taskName: 'task',
  allocId: '',
  groupName: 'group',
  jobId: 'job',
  jobName: 'job',
  namespace: 'default',
  nodeName: '',
  nodeId: '',
};

const SIGTERM = 15;
const SIGKILL = 9;

/**
 * A second backend of the published interface whose "machines" are ordinary processes: a shell that runs the task's
 * `cmds`, and then sleeps for ever. Its power button is SIGTERM. It keeps one file per domain in the data directory, so
 * another process can adopt or remove what this one started. `<data dir>/emulator` is its emulator: a text with a
 * version, or missing.
 */
export class ProcessVirtualizer implements Virtualizer, DomainGetter {
  readonly #domains = new Map<string, ProcessDomain>();
  readonly #listeners = new Set<(name: string, event: DomainEvent) => void>();
  readonly #dir: string;

  constructor(dataDir: string) {
    this.#dir = dataDir;
  }

  async start(): Promise<void> {
    mkdirSync(this.#dir, { recursive: true });
  }

  getDomain(name: string): Domain | undefined {
    return this.#domains.get(name);
  }

  async problemsOf(spec: VmSpec): Promise<readonly string[]> {
    return [
      ...(imageOf(spec) === '/missing' ? ['image: no such image: /missing'] : []),
      ...(spec.memoryMiB === 0 ? ['resources.memory: none'] : []),
    ];
  }

  async createDomain(spec: VmSpec, { signal }: Waiting): Promise<Domain> {
    await this.destroyDomain(spec.name);
    const image = imageOf(spec) ?? '';
    this.#tell(spec.name, `preparing ${image}`);
    if (image === '/busy') {
      throw new VmError('host', 'no room just now', { recoverable: true });
    }
    if (image === '/missing') throw new VmError('job', 'no such image: /missing');
    if (Object.hasOwn(failures, image)) throw failures[image]?.();
    if (image === '/slow') await delay(10_000, undefined, { signal });
    const script = [...spec.guest.commands, 'exec sleep infinity'].join('\n');
    const child = await spawnDetached({
      program: '/bin/sh',
      args: ['-c', script, `vm-${spec.name}`],
      cwd: '/',
      stdio: ['ignore', 'ignore', 'ignore'],
    });
    const record = { name: spec.name, dir: this.#dir, ...child.identity };
    writeFileSync(this.#file(spec.name), JSON.stringify(record));
    this.#tell(spec.name, 'running');
    const ports = spec.nics.flatMap((nic) => nic.ports);
    const onHangUp = spec.exec?.onHangUp;
    return this.#keep(new ProcessDomain({ record, child, ports, onHangUp }));
  }

  async recoverDomain(record: DomainRecord): Promise<Domain | undefined> {
    if (!existsSync(this.#file(record.name)) || !isAlive(record)) return undefined;
    return this.#keep(new ProcessDomain({ record, child: undefined, ports: [] }));
  }

  async stopDomain(name: string, { graceMs, immediately }: StopRequest): Promise<void> {
    const domain = this.#domains.get(name);
    if (domain === undefined) return;
    const never = new AbortController();
    if (!immediately) {
      pidfdSignal(domain.record, SIGTERM);
      const gone = domain.wait(never);
      await Promise.race([gone, delay(graceMs, undefined, { ref: false })]);
    }
    pidfdSignal(domain.record, SIGKILL);
    await domain.wait(never);
  }

  async actOnDomain(name: string, action: GuestAction): Promise<void> {
    const domain = this.#domains.get(name);
    if (domain === undefined) throw new VmError('host', `there is no VM ${name}`);
    const signals = { pause: 19, resume: 18, reset: 10, nmi: 12 };
    pidfdSignal(domain.record, signals[action]);
  }

  async destroyDomain(name: string): Promise<void> {
    const file = this.#file(name);
    if (existsSync(file)) {
      const record: ProcessIdentity = JSON.parse(readFileSync(file, 'utf8'));
      if (isAlive(record)) await kill(record, { signal: AbortSignal.timeout(5000) });
    }
    rmSync(file, { force: true });
    this.#domains.delete(name);
  }

  async getInfo(): Promise<VirtualizerInfo> {
    const emulator = join(this.#dir, 'emulator');
    if (!existsSync(emulator)) {
      const description = `no emulator at ${emulator}`;
      return { healthy: false, detected: false, description, attributes: {} };
    }
    const version = readFileSync(emulator, 'utf8').trim();
    const networks = readdirSync(this.#dir).filter((it) => it.startsWith('network-'));
    const states = networks.map((it) => [it.replace('network-', 'network.'), 'active']);
    return {
      healthy: true,
      detected: true,
      description: 'Healthy',
      attributes: {
        'emulator.version': Number(version),
        'emulator.kvm': false,
        'emulator.load': 0.5,
        ...Object.fromEntries(states),
      },
    };
  }

  onEvent(listener: (name: string, event: DomainEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #keep(domain: ProcessDomain): Domain {
    this.#domains.set(domain.name, domain);
    return domain;
  }

  #tell(name: string, message: string): void {
    for (const listener of this.#listeners) {
      listener(name, { atMs: Date.now(), message, annotations: { backend: 'process' } });
    }
  }

  #file(name: string): string {
    return join(this.#dir, `${name}.json`);
  }
}

class ProcessDomain implements Domain {
  readonly name: string;
  readonly record: DomainRecord;
  readonly startedAtMs = Date.now();
  readonly network;
  readonly onHangUp;
  completedAtMs: number | undefined;
  exit: ExitResult | undefined;
  readonly #over: Promise<ExitResult>;

  constructor(o: {
    readonly record: DomainRecord;
    readonly child: SpawnedProcess | undefined;
    readonly ports: readonly { readonly label: string; readonly guestPort: number }[];
    readonly onHangUp?: readonly string[] | undefined;
  }) {
    this.onHangUp = o.onHangUp;
    this.name = o.record.name;
    this.record = o.record;
    this.network =
      o.ports.length === 0
        ? undefined
        : {
            ip: '192.0.2.7',
            mac: '52:54:00:00:00:07',
            bridge: 'virbr0',
            portMap: Object.fromEntries(o.ports.map((it) => [it.label, it.guestPort])),
          };
    this.#over = this.#watch(o.child);
  }

  get state() {
    return this.exit === undefined ? ('running' as const) : ('exited' as const);
  }

  get attributes() {
    return { pid: String(this.record.pid) };
  }

  async wait({ signal }: Waiting): Promise<ExitResult> {
    signal.throwIfAborted();
    return await this.#over;
  }

  get publishedPorts() {
    return Object.keys(this.network?.portMap ?? {});
  }

  async screenshot(): Promise<never> {
    throw new Error('a process has no screen');
  }

  async exec(request: ExecRequest): Promise<GuestCommand> {
    return ProcessCommand.start(request);
  }

  async usage(): Promise<DomainUsage> {
    const stat = readFileSync(`/proc/${this.record.pid}/stat`, 'utf8').split(') ')[1]?.split(' ');
    const ticks = (field: number): number => Number(stat?.[field - 3] ?? 0) * 10_000_000;
    return {
      atMs: Date.now(),
      cpuUserNs: ticks(14),
      cpuSystemNs: ticks(15),
      rssBytes: Number(stat?.[24 - 3] ?? 0) * 4096,
      guestUsedBytes: undefined,
      guestTotalBytes: undefined,
      swapBytes: undefined,
      maxRssBytes: undefined,
      throttling: undefined,
      pids: [this.record.pid],
    };
  }

  async figures(): Promise<DomainFigures> {
    const usage = await this.usage();
    return { identity: nobody, usage, vcpus: [], disks: [], nics: [], guest: {} };
  }

  async #watch(child: SpawnedProcess | undefined): Promise<ExitResult> {
    const { code, signal } = child === undefined ? await this.#gone() : await child.exit;
    const number = signal === 'SIGKILL' ? SIGKILL : signal === 'SIGTERM' ? SIGTERM : 0;
    // SIGTERM is how this machine is switched off.
    const orderly = number === SIGTERM || code === 0;
    this.exit = {
      exitCode: orderly ? 0 : number > 0 ? 128 + number : (code ?? -1),
      signal: orderly ? 0 : number,
      oomKilled: false,
      error: orderly ? undefined : `ended by ${signal ?? `exit code ${code}`}`,
      reason: signal ?? 'exit',
    };
    this.completedAtMs = Date.now();
    return this.exit;
  }

  /** Not a child of ours: nobody tells how it ended. */
  async #gone(): Promise<{ code: number; signal: null }> {
    while (identify(this.record.pid) !== undefined && isAlive(this.record)) {
      await delay(20, undefined, { ref: false });
    }
    return { code: 0, signal: null };
  }
}
