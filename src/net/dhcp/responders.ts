import { isDeepStrictEqual } from 'node:util';
import type { Logger } from '#host';
import type { ReadyBridge } from '../links/bridge.ts';
import type { ResolvedNetwork } from '../links/managed-bridge.ts';
import { resolverConfig } from '../store/claim.ts';
import type { NetworkStore } from '../store/store.ts';
import type { DhcpNetwork } from './answer.ts';
import { DhcpServer, dhcpSockets } from './server.ts';

interface Responder {
  readonly server: DhcpServer;
  /** A bridge that was made again is another link: a socket bound to the old one receives nothing. */
  readonly linkIndex: number;
  readonly network: DhcpNetwork;
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

  /**
   * Ensures that one runs for the bridge if the network has DHCP, with the network's settings as they are now. A failure
   * is only logged, since guests have their address from the seed, too.
   */
  async ensure(resolved: ResolvedNetwork, { link, owned }: ReadyBridge): Promise<void> {
    const { bridge, address, prefix, dhcp = true } = resolved;
    const names = resolverConfig({ ...resolved, owned });
    const network = { address, prefix, ...names, mtu: link.mtu };
    const wanted = { linkIndex: link.index, network };
    const running = this.#running.get(bridge);
    if (dhcp && running !== undefined && isOf(running, wanted)) {
      running.server.forget();
      return;
    }
    await this.stop(bridge);
    if (!dhcp) return;
    if (!owned && dhcpSockets() > this.#running.size) {
      const message = 'no DHCP responder: another server has the port, and the bridge is not ours';
      this.#log.info(message, { bridge });
      return;
    }
    try {
      const server = await DhcpServer.open({
        bridge,
        network,
        claims: () => this.#store.claims(bridge),
        log: this.#log,
      });
      this.#running.set(bridge, { server, ...wanted });
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

function isOf(
  { server, linkIndex, network }: Responder,
  wanted: Pick<Responder, 'linkIndex' | 'network'>,
): boolean {
  return !server.failed && isDeepStrictEqual({ linkIndex, network }, wanted);
}
