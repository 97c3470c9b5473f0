import type { Logger } from '#host';
import type { DomainEvent, DomainGetter, Virtualizer } from '#vm';
import { decodePluginConfig, type PluginConfig } from './config.ts';
import { PluginError } from './error.ts';

export type Backend = Virtualizer & DomainGetter;
export type CreateBackend = (config: PluginConfig, log: Logger) => Promise<Backend>;

/**
 * The one backend of this process, made when it is first needed: a launch that only answers what the plugin is or
 * whether a configuration is valid never loads it.
 */
export class BackendHolder {
  readonly #create: CreateBackend;
  readonly #log: Logger;
  readonly #onEvent: (name: string, event: DomainEvent) => void;
  #config: PluginConfig = decodePluginConfig(new Uint8Array());
  #made: Promise<Backend> | undefined;

  constructor(o: {
    readonly create: CreateBackend;
    readonly log: Logger;
    readonly onEvent: (name: string, event: DomainEvent) => void;
  }) {
    this.#create = o.create;
    this.#log = o.log;
    this.#onEvent = o.onEvent;
  }

  get config(): PluginConfig {
    return this.#config;
  }

  /** Throws PluginError 'state' when it would change what runs already: only another process can start afresh. */
  configure(config: PluginConfig): void {
    if (this.#made !== undefined && JSON.stringify(config) !== JSON.stringify(this.#config)) {
      throw new PluginError(
        'state',
        'the plugin configuration can only change with a restart of the plugin',
      );
    }
    this.#config = config;
  }

  /** A failure is not remembered: the next caller tries again. */
  get(): Promise<Backend> {
    this.#made ??= this.#make();
    return this.#made;
  }

  /** Begins what get() would, so that the first fingerprint comes sooner; who needs it hears of a failure. */
  warmUp(): void {
    this.get().catch((error: unknown) => this.#log.debug('not ready yet', { error }));
  }

  async #make(): Promise<Backend> {
    // It is made of the configuration and the installed program, which stay as they are; it starts on a host that changes.
    let recoverable = false;
    try {
      const backend = await this.#create(this.#config, this.#log);
      backend.onEvent(this.#onEvent);
      recoverable = true;
      await backend.start(this.#config.dataDir);
      return backend;
    } catch (cause) {
      this.#made = undefined;
      throw new PluginError('backend', 'virt: the driver could not be made ready on this host', {
        cause,
        recoverable,
      });
    }
  }
}
