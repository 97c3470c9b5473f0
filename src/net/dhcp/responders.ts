import type { Logger } from '#host';
import type { ReadyBridge } from '../links/bridge.ts';
import type { ResolvedNetwork } from '../links/managed-bridge.ts';
import type { NetworkStore } from '../store/store.ts';
import { DhcpServer, dhcpSockets } from './server.ts';

interface Responder {
  readonly server: DhcpServer;
  /** A bridge that was made again is another link: a socket bound to the old one receives nothing. */
  readonly linkIndex: number;
}

/** This process's DHCP responders, one for each managed bridge in use. */
export class Responders implements AsyncDisposable {
  readonly #store: NetworkStore;
  readonly #log: Logger;
  readonly #running = new Map<string, Responder>();

  constructor(store: NetworkStore, log: Logger) {
    this.#store = store;
    this.#log = log;
  }

  /** Ensures that one runs for the bridge. A failure is only logged, since guests have their address from the seed, too. */
  async ensure(
    { bridge, address, prefix, nameservers }: ResolvedNetwork,
    { link, owned }: ReadyBridge,
  ): Promise<void> {
    const running = this.#running.get(bridge);
    if (running?.linkIndex === link.index && !running.server.failed) {
      running.server.forget();
      return;
    }
    await this.stop(bridge);
    if (!owned && dhcpSockets() > this.#running.size) {
      const message = 'no DHCP responder: another server has the port, and the bridge is not ours';
      this.#log.info(message, { bridge });
      return;
    }
    try {
      const server = await DhcpServer.open({
        bridge,
        network: { address, prefix, nameservers, mtu: link.mtu },
        claims: () => this.#store.claims(bridge),
        log: this.#log,
      });
      this.#running.set(bridge, { server, linkIndex: link.index });
    } catch (error) {
      this.#log.warn('no DHCP responder', { bridge, error });
    }
  }

  forget(bridge: string): void {
    this.#running.get(bridge)?.server.forget();
  }

  async stop(bridge: string): Promise<void> {
    const running = this.#running.get(bridge);
    this.#running.delete(bridge);
    await running?.server[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const bridge of [...this.#running.keys()]) await this.stop(bridge);
  }
}
