import { chmod, mkdir } from 'node:fs/promises';
import { bootId, findProgram, KeyedQueue, type Logger, SpareNamespaces, within } from '#host';
import { ImageStore } from '#image';
import { Networks } from '#net';
import type { ManagedNetwork, StoragePools, VmSpec, Waiting } from '#spec';
import { messageOf, OwnedElsewhereError, VmError } from './error.ts';
import { describeHost } from './host-health.ts';
import type { Machine } from './live/machine.ts';
import { SharedEvents } from './live/shared-events.ts';
import type { EventFeed, EventListener } from './live/task-events.ts';
import { adoptVm } from './start/adopt.ts';
import { problemsOf } from './start/check.ts';
import { startVm } from './start/start.ts';
import { Remover } from './store/remove.ts';
import { Sweeper } from './sweeper.ts';
import type {
  Domain,
  DomainGetter,
  DomainRecord,
  GuestAction,
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
  /** Bridges that the driver does not manage and that VMs may be plugged into. */
  readonly bridges: readonly string[];
  /** Devices that VMs may have a macvtap on; none when left out. */
  readonly macvtapDevices?: readonly string[];
  /** Maximum of tracked connections of a VM in each direction. */
  readonly maxConnections: number;
  /** Maximum virtual size of an image, in bytes. */
  readonly maxImageBytes: number;
  /** None when left out: every disk is created in the directory of its VM. */
  readonly pools?: StoragePools;
  /** Maximum of the images that were converted, in bytes, apart from those in use; 50 GiB when left out. */
  readonly imageStoreMaxBytes?: number;
  readonly log: Logger;
}

const networkInitMs = 10_000;
const defaultStoreBytes = 50 * 1024 ** 3;

/** The one backend: QEMU, controlled over QMP. Creates nothing on the host before the first VM. */
export class QemuVirtualizer implements Virtualizer, DomainGetter {
  readonly #host: VmHost;
  readonly #namespaces = new SpareNamespaces();
  readonly #domains: Map<string, Machine>;
  /** One piece of work at a time for each VM. */
  readonly #queue = new KeyedQueue();
  readonly #events: EventFeed;
  readonly #shared: SharedEvents<Machine>;
  readonly #remover: Remover;
  readonly #sweeper: Sweeper;

  private constructor(host: VmHost, shared: SharedEvents<Machine>) {
    this.#host = host;
    this.#shared = shared;
    this.#events = shared.feed;
    this.#domains = shared.own;
    this.#remover = new Remover(host);
    this.#sweeper = new Sweeper(host, {
      queue: this.#queue,
      remover: this.#remover,
      stateOf: (name) => this.#domains.get(name)?.state,
      destroy: (name) => this.#destroy(name),
    });
  }

  static create(options: VirtualizerOptions): QemuVirtualizer {
    const { dataDir, runDir, imagePaths, uidRange, maxImageBytes, log } = options;
    const shared = new SharedEvents<Machine>({ dataDir, runDir, log });
    const networks = Networks.open({
      stateDir: `${dataDir}/networks`,
      managed: options.managedNetworks,
      bridges: options.bridges,
      macvtapDevices: options.macvtapDevices ?? [],
      maxConnections: options.maxConnections,
      nft: findProgram('nft') ?? '/usr/sbin/nft',
      log,
      onEvent: (vm, sentence) => shared.report(vm, sentence),
    });
    const host = {
      dataDir,
      runDir,
      imagePaths,
      uidRange,
      maxImageBytes,
      pools: options.pools ?? { pools: [], default: undefined },
      images: new ImageStore({
        dir: `${dataDir}/image-store`,
        maxBytes: options.imageStoreMaxBytes ?? defaultStoreBytes,
        log,
      }),
      networks,
      log,
    };
    return new QemuVirtualizer(host, shared);
  }

  async start(): Promise<void> {
    const { dataDir, log } = this.#host;
    await mkdir(`${dataDir}/vms`, { recursive: true, mode: 0o700 });
    // Earlier versions gave every user of the host access.
    await chmod(`${dataDir}/vms`, 0o700).catch((error: unknown) =>
      // A read-only disk must not stop the plugin: it may hold VMs that are to be removed.
      log.warn('access to the directory of the VMs not restricted', { error: messageOf(error) }),
    );
    if (!this.#sweeper.isScheduled) await this.#initNetwork();
    this.#sweeper.begin();
  }

  /** A failure does not stop the plugin: every fingerprint tries again. */
  async #initNetwork(): Promise<void> {
    const { networks, log } = this.#host;
    using limited = within(networkInitMs);
    await networks
      .init(limited)
      .catch((error: unknown) => log.warn('network not ready', { error: messageOf(error) }));
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
      if (!this.#sweeper.isScheduled) await this.start();
      // A plugin that was killed during an earlier start of this VM may have left parts of it.
      await this.#destroy(spec.name);
      const machine = await this.#startOrUndo(spec, waiting);
      this.#domains.set(spec.name, machine);
      this.#sweeper.serve(spec.identity);
      return machine;
    });
  }

  async #startOrUndo(spec: VmSpec, waiting: Waiting): Promise<Machine> {
    const [host, namespaces] = [this.#host, this.#namespaces];
    const emit = this.#events.of(spec.name);
    try {
      return await startVm(spec, { host, namespaces, emit }, waiting);
    } catch (error) {
      // A failed removal is recorded and retried; the start's own error is the one to report.
      await this.#destroy(spec.name).catch(() => {});
      throw error;
    } finally {
      namespaces.replace();
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
      // When adoption fails Nomad destroys the task and starts a new one: the destroy must find the VM in this
      // directory.
      this.#remover.remember(known.name, known.dir);
      const emit = this.#events.of(known.name);
      const own = { ...known, currentBootId: bootId() };
      const machine = await adoptVm(own, spec, { host: this.#host, emit }, waiting);
      if (machine === undefined) return undefined;
      this.#domains.set(known.name, machine);
      this.#sweeper.serve(machine.client);
      return machine;
    });
  }

  async stopDomain(name: string, request: StopRequest): Promise<void> {
    await this.#domains.get(name)?.stop(request);
  }

  async actOnDomain(name: string, action: GuestAction, waiting: Waiting): Promise<void> {
    const machine = this.#domains.get(name);
    if (machine === undefined) throw new VmError('host', `there is no VM ${name}`);
    await machine.act(action, waiting);
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
      if (before === undefined) this.#sweeper.retrySoon();
      throw error;
    }
    if (before !== undefined) this.#report(name, 'The failed removal of the VM was completed');
  }

  #report(name: string, message: string): void {
    this.#events.of(name)(message);
    this.#host.log.warn(message, { vm: name });
  }

  async getInfo(waiting: Waiting): Promise<VirtualizerInfo> {
    const info = await describeHost(this.#host, waiting);
    await this.#shared.take();
    // The remains of one VM do not stop others from running here: they do not make the node unhealthy.
    return { ...info, description: [info.description, ...this.#remover.problems].join('; ') };
  }

  onEvent(listener: EventListener): () => void {
    return this.#events.listen(listener);
  }

  /** Removes now what no task claims any more; it is done at intervals as well. Returns the names. */
  async sweep(): Promise<readonly string[]> {
    return this.#sweeper.sweep();
  }

  /** Releases every VM without changing it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#sweeper[Symbol.dispose]();
    for (const machine of this.#domains.values()) await machine.release();
    await this.#namespaces[Symbol.asyncDispose]();
    await this.#host.networks[Symbol.asyncDispose]();
  }
}
