import type { Logger } from '#host';
import type { DomainEvent, DomainGetter, Virtualizer } from '#vm';
import { decodePluginConfig, type PluginConfig } from '../agent/config.ts';
import { PluginError } from '../error/plugin-error.ts';

export type Backend = Virtualizer & DomainGetter;
export type CreateBackend = (config: PluginConfig, log: Logger) => Promise<Backend>;

/** The only backend. The room is loaded when it is first needed: two of the three launches per agent start never do. */
export const createQemu: CreateBackend = async (config, log): Promise<Backend> => {
  const { QemuVirtualizer } = await import('#vm');
  return QemuVirtualizer.create({
    dataDir: config.dataDir,
    runDir: config.runDir,
    imagePaths: config.imagePaths,
    uidRange: config.uidRange,
    managedNetworks: config.managedNetworks,
    bridges: config.bridges,
    macvtapDevices: config.macvtapDevices,
    maxConnections: config.limits.maxConnections,
    maxImageBytes: config.limits.maxDiskMiB * 1024 ** 2,
    pools: config.storagePools,
    imageStoreMaxBytes: config.imageStoreMaxBytes,
    log,
  });
};

export interface BackendOptions {
  readonly driverName: string;
  readonly create: CreateBackend;
  readonly log: Logger;
  readonly onEvent: (name: string, event: DomainEvent) => void;
  /** Called once, when it is ready. */
  readonly onReady: (config: PluginConfig) => void;
}

/**
 * The one backend of this process, made when it is first needed: a launch that only answers PluginInfo or checks a
 * configuration never loads it.
 */
export class BackendHolder {
  readonly #options: BackendOptions;
  #config: PluginConfig;
  #made: Promise<Backend> | undefined;

  constructor(options: BackendOptions) {
    this.#options = options;
    this.#config = decodePluginConfig(new Uint8Array(), options.driverName);
  }

  get config(): PluginConfig {
    return this.#config;
  }

  /** Throws PluginError 'state' when the backend was made from another configuration: only a new process can use this one. */
  configure(config: PluginConfig): void {
    if (this.#made !== undefined && JSON.stringify(config) !== JSON.stringify(this.#config)) {
      throw new PluginError(
        'state',
        'the plugin configuration can only change with a restart of the plugin',
      );
    }
    this.#config = config;
  }

  /** A failure is not kept: the next caller tries again. */
  get(): Promise<Backend> {
    this.#made ??= this.#make();
    return this.#made;
  }

  /** Starts what get() does, so that the first fingerprint comes sooner. get() reports a failure. */
  warmUp(): void {
    this.get().catch((error: unknown) => this.#options.log.debug('not ready yet', { error }));
  }

  async #make(): Promise<Backend> {
    const { driverName, create, log, onEvent, onReady } = this.#options;
    // Making it depends on the configuration and the installed program, which do not change; starting it depends on the host.
    let recoverable = false;
    try {
      const backend = await create(this.#config, log);
      backend.onEvent(onEvent);
      recoverable = true;
      await backend.start();
      onReady(this.#config);
      return backend;
    } catch (cause) {
      this.#made = undefined;
      const message = `${driverName}: the driver could not be made ready on this host`;
      throw new PluginError('host', message, { cause, recoverable });
    }
  }
}
