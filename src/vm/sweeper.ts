import { readdir } from 'node:fs/promises';
import { errnoOf, type KeyedQueue, within } from '#host';
import { messageOf } from './error.ts';
import { forgottenVms, releaseClaims } from './store/forgotten.ts';
import { type Client, firstSweepMs, isOrphan, maxCheckMs, sweepEveryMs } from './store/orphans.ts';
import { vmPaths } from './store/paths.ts';
import type { Remover } from './store/remove.ts';
import type { DomainState } from './virtualizer.ts';
import type { VmHost } from './vm-host.ts';

/** The list of VMs, as far as the sweeper needs it. */
export interface VmList {
  /** One piece of work at a time for each VM. */
  readonly queue: KeyedQueue;
  readonly remover: Remover;
  /** Undefined for a VM that this process neither started nor adopted. */
  stateOf(name: string): DomainState | undefined;
  /** Ends and removes a VM; called inside the VM's queue. */
  destroy(name: string): Promise<void>;
}

/** Removes at intervals what no task claims any more, and retries removals that failed. */
export class Sweeper implements Disposable {
  readonly #host: VmHost;
  readonly #vms: VmList;
  #client: Client = { nodeId: '' };
  #servesSinceMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #dueAtMs = Number.POSITIVE_INFINITY;
  #disposed = false;

  constructor(host: VmHost, vms: VmList) {
    this.#host = host;
    this.#vms = vms;
  }

  get isScheduled(): boolean {
    return this.#timer !== undefined;
  }

  /** Schedules the first sweep, once. */
  begin(): void {
    if (!this.isScheduled) this.#sweepIn(firstSweepMs);
  }

  /** Brings the next sweep forward, after a removal has failed. */
  retrySoon(): void {
    this.#sweepIn(firstSweepMs);
  }

  /** From its first task on this process serves a Nomad client, and removes what that client has forgotten. */
  serve(client: Client): void {
    if (client.nodeId === '' || this.#client.nodeId === client.nodeId) return;
    this.#client = client;
    this.#servesSinceMs = performance.now();
  }

  /**
   * Removes VMs of this Nomad client that no task claims and whose allocation is gone: they are left when the agent
   * forgets tasks while no plugin runs. Also retries what could not be removed before. Returns their names.
   */
  async sweep(): Promise<readonly string[]> {
    const { log } = this.#host;
    const { queue, remover } = this.#vms;
    const swept: string[] = [];
    for (const name of new Set([...(await this.#namesOnDisk()), ...remover.unfinished.keys()])) {
      try {
        if (!(await queue.run(name, () => this.#sweepOne(name)))) continue;
        log.warn('removed a VM that no task claims', { vm: name });
        swept.push(name);
      } catch (error) {
        log.warn('unclaimed VM not removed', { vm: name, error: messageOf(error) });
      }
    }
    await this.#releaseForgotten();
    await this.#collectImages();
    return swept;
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    clearTimeout(this.#timer);
  }

  /** Schedules a sweep, unless one is due sooner. */
  #sweepIn(ms: number): void {
    const dueAtMs = performance.now() + ms;
    // A sweep that ends after the disposal schedules no other.
    if (this.#disposed || dueAtMs >= this.#dueAtMs) return;
    clearTimeout(this.#timer);
    this.#dueAtMs = dueAtMs;
    this.#timer = setTimeout(() => void this.#sweepNow(), ms).unref();
  }

  async #sweepNow(): Promise<void> {
    this.#dueAtMs = Number.POSITIVE_INFINITY;
    try {
      await this.sweep();
    } catch (error) {
      this.#host.log.warn('sweep failed', { error: messageOf(error) });
    }
    this.#sweepIn(sweepEveryMs);
  }

  /** Names of all VMs that have a directory here, including those of other plugin processes. */
  async #namesOnDisk(): Promise<readonly string[]> {
    try {
      return await readdir(`${this.#host.dataDir}/vms`);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return [];
      throw error;
    }
  }

  /** Runs in the VM's queue, so that no start or adoption comes between the check and the removal. */
  async #sweepOne(name: string): Promise<boolean> {
    const { remover, stateOf, destroy } = this.#vms;
    const unfinished = remover.unfinished.has(name);
    const state = stateOf(name);
    // A QEMU that did not die when it was killed is waited for.
    if (state !== undefined && !(unfinished && state === 'exited')) return false;
    if (!unfinished && !(await this.#isOrphan(name))) return false;
    await destroy(name);
    return true;
  }

  async #isOrphan(name: string): Promise<boolean> {
    const { dataDir, runDir } = this.#host;
    const question = {
      paths: vmPaths(name, dataDir, runDir),
      client: this.#client,
      servedMs: performance.now() - this.#servesSinceMs,
      nowMs: Date.now(),
    };
    using limited = within(maxCheckMs);
    return await isOrphan(question, limited);
  }

  async #collectImages(): Promise<void> {
    const { images, log } = this.#host;
    using limited = within(maxCheckMs);
    await images
      .collect(limited)
      .catch((error: unknown) => log.warn('images not collected', { error: messageOf(error) }));
  }

  async #releaseForgotten(): Promise<void> {
    for (const name of await forgottenVms(this.#host)) {
      using limited = within(maxCheckMs);
      await this.#vms.queue
        .run(name, () => releaseClaims(name, this.#host, limited))
        .catch((error: unknown) =>
          this.#host.log.warn('claims not released', { vm: name, error: messageOf(error) }),
        );
    }
  }
}
