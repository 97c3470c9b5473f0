import { chmod, mkdir, readdir } from 'node:fs/promises';
import { bootId, findProgram, type Logger, type Waiting } from '#host';
import { Networks } from '#net';
import { findEmulators, probeKvmForVms } from '#qemu';
import type { ManagedNetwork, VmSpec } from '#spec';
import { findProblems, startVm } from './apply.ts';
import type { Accelerated, VmHost } from './deps.ts';
import { messageOf, VmError } from './error.ts';
import { describeHost } from './info.ts';
import type { Machine } from './machine.ts';
import { vmPaths } from './paths.ts';
import { recoverVm } from './recover.ts';
import { Remover } from './remove.ts';
import { type StoryListener, StoryTeller } from './story.ts';
import { firstSweepMs, isOrphan, sweepEveryMs, sweepLookMs } from './sweep.ts';
import type {
  Domain,
  DomainGetter,
  DomainRecord,
  RecoverSpec,
  StopRequest,
  Virtualizer,
  VirtualizerInfo,
} from './virtualizer.ts';

export interface VirtualizerOptions {
  readonly dataDir: string;
  readonly runDir: string;
  readonly imagePaths: readonly string[];
  readonly uidRange: { readonly min: number; readonly max: number };
  readonly managedNetworks: readonly ManagedNetwork[];
  /** Bridges of others' that VMs may be plugged into. */
  readonly bridges: readonly string[];
  /** How many tracked connections a VM may have in each direction. */
  readonly maxConnections: number;
  /** Largest virtual size of an image, in bytes. */
  readonly maxImageBytes: number;
  readonly log: Logger;
}

/** The one backend: QEMU, steered over QMP. Makes nothing on the host until a VM is asked for. */
export class QemuVirtualizer implements Virtualizer, DomainGetter {
  readonly #host: VmHost;
  readonly #domains = new Map<string, Machine>();
  readonly #busy = new Map<string, Promise<unknown>>();
  readonly #teller = new StoryTeller();
  readonly #remover: Remover;
  #nodeId = '';
  #sweeper: NodeJS.Timeout | undefined;

  private constructor(host: VmHost) {
    this.#host = host;
    this.#remover = new Remover(host);
  }

  static create(options: VirtualizerOptions): QemuVirtualizer {
    const { dataDir, runDir, imagePaths, uidRange, maxImageBytes, log } = options;
    const networks = Networks.open({
      stateDir: `${dataDir}/networks`,
      managed: options.managedNetworks,
      bridges: options.bridges,
      maxConnections: options.maxConnections,
      nft: findProgram('nft') ?? '/usr/sbin/nft',
      log,
    });
    return new QemuVirtualizer({
      dataDir,
      runDir,
      imagePaths,
      uidRange,
      maxImageBytes,
      networks,
      log,
    });
  }

  async start(): Promise<void> {
    const { dataDir } = this.#host;
    await mkdir(`${dataDir}/vms`, { recursive: true, mode: 0o700 });
    // Earlier versions let every user of the host through.
    await chmod(`${dataDir}/vms`, 0o700);
  }

  getDomain(name: string): Domain | undefined {
    return this.#domains.get(name);
  }

  async problemsOf(spec: VmSpec, waiting: Waiting): Promise<readonly string[]> {
    const accelerated = await this.#accelerated(spec, waiting);
    return await findProblems({ spec, host: this.#host, accelerated }, waiting);
  }

  async createDomain(spec: VmSpec, waiting: Waiting): Promise<Domain> {
    return this.#inTurn(spec.name, async () => {
      if (this.#domains.has(spec.name)) throw new VmError('host', `VM ${spec.name} exists already`);
      await this.start();
      // What a plugin killed in the middle of the same start left behind must not stay beside the new VM.
      await this.#remover.remove(spec.name);
      const accelerated = await this.#accelerated(spec, waiting);
      const tell = this.#teller.about(spec.name);
      const machine = await startVm({ spec, host: this.#host, accelerated, tell }, waiting);
      this.#domains.set(spec.name, machine);
      this.#serve(spec.identity.nodeId);
      return machine;
    });
  }

  async recoverDomain(known: DomainRecord, spec: RecoverSpec): Promise<Domain | undefined> {
    return this.#inTurn(known.name, async () => {
      const present = this.#domains.get(known.name);
      if (present !== undefined) return present;
      // Where adopting fails Nomad destroys the task and starts it anew: what runs there must not be forgotten.
      this.#remover.remember(known.name, known.dir);
      const machine = await recoverVm({
        known,
        spec,
        host: this.#host,
        bootId: bootId(),
        tell: this.#teller.about(known.name),
      });
      if (machine === undefined) return undefined;
      this.#domains.set(known.name, machine);
      this.#serve(machine.nodeId);
      return machine;
    });
  }

  async stopDomain(name: string, request: StopRequest): Promise<void> {
    await this.#domains.get(name)?.stop(request);
  }

  async destroyDomain(name: string): Promise<void> {
    return this.#inTurn(name, async () => {
      const machine = this.#domains.get(name);
      if (machine !== undefined) {
        await machine.kill();
        await machine.finish();
        this.#domains.delete(name);
      }
      try {
        await this.#remover.remove(name);
      } catch (error) {
        this.#sweeper ??= this.#sweepIn(firstSweepMs);
        throw error;
      }
    });
  }

  async getInfo(waiting: Waiting): Promise<VirtualizerInfo> {
    return describeHost(this.#host, waiting);
  }

  onEvent(listener: StoryListener): () => void {
    return this.#teller.listen(listener);
  }

  /** Names of the VMs that have a directory here, whoever started them. */
  async namesOnDisk(): Promise<readonly string[]> {
    try {
      return await readdir(`${this.#host.dataDir}/vms`);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
      throw error;
    }
  }

  /**
   * Removes VMs of this Nomad client that no task claims and whose allocation is gone: what is left when the agent
   * forgets tasks while no plugin runs. Tries again, too, what could not be removed before. Returns their names.
   */
  async sweep(): Promise<readonly string[]> {
    const { log } = this.#host;
    const swept: string[] = [];
    for (const name of new Set([...(await this.namesOnDisk()), ...this.#remover.unfinished])) {
      try {
        if (!(await this.#inTurn(name, () => this.#sweepOne(name)))) continue;
        log.warn('removed a VM that no task claims', { vm: name });
        swept.push(name);
      } catch (error) {
        log.warn('unclaimed VM not removed', { vm: name, reason: messageOf(error) });
      }
    }
    return swept;
  }

  /** In its turn, so that nobody starts or adopts it between the look and the removal. */
  async #sweepOne(name: string): Promise<boolean> {
    if (this.#domains.has(name)) return false;
    const { dataDir, runDir } = this.#host;
    const question = { paths: vmPaths(name, dataDir, runDir), nodeId: this.#nodeId };
    const waiting = { signal: AbortSignal.timeout(sweepLookMs) };
    const forgotten = this.#remover.unfinished.has(name);
    if (!forgotten && !(await isOrphan({ ...question, nowMs: Date.now() }, waiting))) return false;
    await this.#remover.remove(name);
    return true;
  }

  /** Lets go of every VM without touching it. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#sweeper);
    for (const machine of this.#domains.values()) await machine.release();
    await this.#host.networks[Symbol.asyncDispose]();
  }

  /** From its first task on this process serves a Nomad client, and looks after what that client has forgotten. */
  #serve(nodeId: string): void {
    if (nodeId === '') return;
    this.#nodeId = nodeId;
    this.#sweeper ??= this.#sweepIn(firstSweepMs);
  }

  #sweepIn(ms: number): NodeJS.Timeout {
    const again = (): void => {
      this.#sweeper = this.#sweepIn(sweepEveryMs);
    };
    return setTimeout(() => void this.sweep().then(again, again), ms).unref();
  }

  async #accelerated(spec: VmSpec, waiting: Waiting): Promise<Accelerated> {
    const { usable, broken } = await findEmulators(waiting);
    const emulator = usable.find((it) => it.arch === spec.arch);
    if (emulator === undefined) {
      const reason = broken.find((it) => it.arch === spec.arch)?.reason;
      const text = reason ?? `there is no qemu-system-${spec.arch} on this host`;
      throw new VmError('emulator', text, { recoverable: true });
    }
    const kvm =
      spec.accelerator === 'tcg'
        ? { usable: false, reason: 'not asked for' }
        : await probeKvmForVms(emulator, this.#host.uidRange, waiting);
    return { emulator, kvm };
  }

  /** One piece of work at a time for each VM. */
  async #inTurn<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#busy.get(name) ?? Promise.resolve();
    const mine = before.then(work, work);
    const settled = mine.catch(() => {});
    this.#busy.set(name, settled);
    try {
      return await mine;
    } finally {
      if (this.#busy.get(name) === settled) this.#busy.delete(name);
    }
  }
}
