import { chmod, mkdir, readdir } from 'node:fs/promises';
import { bootId, errnoOf, findProgram, KeyedQueue, type Logger, within } from '#host';
import { Networks } from '#net';
import type { ManagedNetwork, VmSpec, Waiting } from '#spec';
import { messageOf, OwnedElsewhereError, VmError } from './error.ts';
import { describeHost } from './host-health.ts';
import type { Machine } from './live/machine.ts';
import { EventFeed, type EventListener } from './live/task-events.ts';
import { adoptVm } from './start/adopt.ts';
import { problemsOf } from './start/check.ts';
import { startVm } from './start/start.ts';
import { forgottenVms, freeClaims } from './store/forgotten.ts';
import { firstSweepMs, isOrphan, sweepEveryMs, sweepLookMs } from './store/orphans.ts';
import { vmPaths } from './store/paths.ts';
import { Remover } from './store/remove.ts';
import type {
  Domain,
  DomainGetter,
  DomainRecord,
  RecoverSpec,
  StopRequest,
  Virtualizer,
  VirtualizerInfo,
} from './virtualizer.ts';
import type { VmHost } from './vm-host.ts';

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

const networkInitMs = 10_000;

/** The one backend: QEMU, steered over QMP. Makes nothing on the host until a VM is asked for. */
export class QemuVirtualizer implements Virtualizer, DomainGetter {
  readonly #host: VmHost;
  readonly #domains = new Map<string, Machine>();
  /** One piece of work at a time for each VM. */
  readonly #queue = new KeyedQueue();
  readonly #events = new EventFeed();
  readonly #remover: Remover;
  #nodeId = '';
  #servesSinceMs = 0;
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
    const { dataDir, log } = this.#host;
    await mkdir(`${dataDir}/vms`, { recursive: true, mode: 0o700 });
    // Earlier versions let every user of the host through.
    await chmod(`${dataDir}/vms`, 0o700).catch((error: unknown) =>
      // On a read-only disk there are still VMs to be removed.
      log.warn('directory of the VMs not closed', { error: messageOf(error) }),
    );
    if (this.#sweeper === undefined) await this.#initNetwork();
    this.#sweeper ??= this.#sweepIn(firstSweepMs);
  }

  /** A failure does not stop the plugin: every fingerprint tries again. */
  async #initNetwork(): Promise<void> {
    const { networks, log } = this.#host;
    await networks
      .init({ signal: AbortSignal.timeout(networkInitMs) })
      .catch((error: unknown) => log.warn('network not ready', { error }));
  }

  getDomain(name: string): Domain | undefined {
    return this.#domains.get(name);
  }

  async problemsOf(spec: VmSpec, waiting: Waiting): Promise<readonly string[]> {
    const problems = await problemsOf(spec, this.#host, waiting);
    return problems.map(messageOf);
  }

  async createDomain(spec: VmSpec, waiting: Waiting): Promise<Domain> {
    return this.#queue.run(spec.name, async () => {
      if (this.#domains.has(spec.name)) throw new VmError('host', `VM ${spec.name} exists already`);
      await this.start();
      // What a plugin killed in the middle of the same start left behind must not stay beside the new VM.
      await this.#destroy(spec.name);
      const machine = await this.#startOrUndo(spec, waiting);
      this.#domains.set(spec.name, machine);
      this.#serve(spec.identity.nodeId);
      return machine;
    });
  }

  async #startOrUndo(spec: VmSpec, waiting: Waiting): Promise<Machine> {
    const emit = this.#events.of(spec.name);
    try {
      return await startVm(spec, { host: this.#host, emit }, waiting);
    } catch (error) {
      // Recorded and tried again where it fails; the start's own error is what matters.
      await this.#destroy(spec.name).catch(() => {});
      throw error;
    }
  }

  async recoverDomain(
    known: DomainRecord,
    spec: RecoverSpec,
    waiting: Waiting,
  ): Promise<Domain | undefined> {
    return this.#queue.run(known.name, async () => {
      const present = this.#domains.get(known.name);
      if (present !== undefined) return present;
      // Where adopting fails Nomad destroys the task and starts it anew: what runs there must not be forgotten.
      this.#remover.remember(known.name, known.dir);
      const emit = this.#events.of(known.name);
      const own = { ...known, currentBootId: bootId() };
      const machine = await adoptVm(own, spec, { host: this.#host, emit }, waiting);
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
    return this.#queue.run(name, () => this.#destroy(name));
  }

  async #destroy(name: string): Promise<void> {
    const before = this.#remover.unfinished.get(name);
    try {
      const machine = this.#domains.get(name);
      if (machine !== undefined) {
        await machine.kill();
        await machine.finish();
        this.#domains.delete(name);
      }
      await this.#remover.remove(name);
    } catch (error) {
      if (error instanceof OwnedElsewhereError) throw error;
      this.#remover.fail(name, error);
      if (before !== messageOf(error)) this.#report(name, messageOf(error));
      if (before === undefined) this.#sweepIn(firstSweepMs);
      throw error;
    }
    if (before !== undefined) this.#report(name, 'What was left of the VM was removed');
  }

  #report(name: string, message: string): void {
    this.#events.of(name)(message);
    this.#host.log.warn(message, { vm: name });
  }

  async getInfo(waiting: Waiting): Promise<VirtualizerInfo> {
    const info = await describeHost(this.#host, waiting);
    // What is left of one VM is no reason to give the node no others: it stays as healthy as it is.
    return { ...info, description: [info.description, ...this.#remover.problems].join('; ') };
  }

  onEvent(listener: EventListener): () => void {
    return this.#events.listen(listener);
  }

  /** Names of the VMs that have a directory here, whoever started them. */
  async namesOnDisk(): Promise<readonly string[]> {
    try {
      return await readdir(`${this.#host.dataDir}/vms`);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return [];
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
    for (const name of new Set([
      ...(await this.namesOnDisk()),
      ...this.#remover.unfinished.keys(),
    ])) {
      try {
        if (!(await this.#queue.run(name, () => this.#sweepOne(name)))) continue;
        log.warn('removed a VM that no task claims', { vm: name });
        swept.push(name);
      } catch (error) {
        log.warn('unclaimed VM not removed', { vm: name, error: messageOf(error) });
      }
    }
    await this.#freeForgotten();
    return swept;
  }

  async #freeForgotten(): Promise<void> {
    for (const name of await forgottenVms(this.#host)) {
      using limited = within(sweepLookMs);
      await this.#queue
        .run(name, () => freeClaims(name, this.#host, limited))
        .catch((error: unknown) =>
          this.#host.log.warn('claims not freed', { vm: name, error: messageOf(error) }),
        );
    }
  }

  /** In its turn, so that nobody starts or adopts it between the look and the removal. */
  async #sweepOne(name: string): Promise<boolean> {
    const forgotten = this.#remover.unfinished.has(name);
    const machine = this.#domains.get(name);
    // Of a QEMU that did not die when it should the end is waited for.
    if (machine !== undefined && !(forgotten && machine.state === 'exited')) return false;
    if (!forgotten && !(await this.#isOrphan(name))) return false;
    await this.#destroy(name);
    return true;
  }

  async #isOrphan(name: string): Promise<boolean> {
    const { dataDir, runDir } = this.#host;
    const question = {
      paths: vmPaths(name, dataDir, runDir),
      nodeId: this.#nodeId,
      servedMs: performance.now() - this.#servesSinceMs,
      nowMs: Date.now(),
    };
    using limited = within(sweepLookMs);
    return await isOrphan(question, limited);
  }

  /** Lets go of every VM without touching it. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#sweeper);
    for (const machine of this.#domains.values()) await machine.release();
    await this.#host.networks[Symbol.asyncDispose]();
  }

  /** From its first task on this process serves a Nomad client, and looks after what that client has forgotten. */
  #serve(nodeId: string): void {
    if (nodeId === '' || this.#nodeId === nodeId) return;
    this.#nodeId = nodeId;
    this.#servesSinceMs = performance.now();
  }

  #sweepIn(ms: number): NodeJS.Timeout {
    clearTimeout(this.#sweeper);
    const again = (): unknown => this.#sweepIn(sweepEveryMs);
    this.#sweeper = setTimeout(() => void this.sweep().then(again, again), ms).unref();
    return this.#sweeper;
  }
}
