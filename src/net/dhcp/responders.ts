import type { Logger } from '#host';
import type { ReadyBridge } from '../links/bridge.ts';
import type { ResolvedNetwork } from '../links/managed-bridge.ts';
import { type BridgeServer, PerBridge } from '../links/per-bridge.ts';
import { resolverConfig } from '../store/claim.ts';
import type { NetworkStore } from '../store/store.ts';
import type { DhcpNetwork } from './answer.ts';
import { DhcpServer, dhcpSockets } from './server.ts';

interface Wanted {
  /** A bridge that was made again is another link: a socket bound to the old one receives nothing. */
  readonly linkIndex: number;
  readonly owned: boolean;
  readonly network: DhcpNetwork;
}

/** This process's DHCP responders, one for each managed bridge in use. */
export class Responders implements AsyncDisposable {
  readonly #store: NetworkStore;
  readonly #log: Logger;
  readonly #servers = new PerBridge<Wanted>((bridge, wanted) => this.#open(bridge, wanted));

  constructor(store: NetworkStore, log: Logger) {
    this.#store = store;
    this.#log = log;
  }

  /**
   * Ensures that one runs for the bridge if the network has DHCP, with the network's settings as they are now. A failure
   * is only logged, since guests have their address from the seed, too.
   */
  async ensure(resolved: ResolvedNetwork, ready: ReadyBridge): Promise<void> {
    const { bridge } = resolved;
    try {
      await this.#servers.ensure(bridge, wantedFor(resolved, ready));
    } catch (error) {
      this.#log.warn('no DHCP responder', { bridge, error });
    }
  }

  forget(bridge: string): void {
    this.#servers.forget(bridge);
  }

  async stop(bridge: string): Promise<void> {
    await this.#servers.stop(bridge);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#servers[Symbol.asyncDispose]();
  }

  async #open(bridge: string, { owned, network }: Wanted): Promise<BridgeServer | undefined> {
    if (!owned && dhcpSockets() > this.#servers.size) {
      const message = 'no DHCP responder: another server has the port, and the bridge is not ours';
      this.#log.info(message, { bridge });
      return undefined;
    }
    const claims = () => this.#store.claims(bridge);
    return await DhcpServer.open({ bridge, network, claims, log: this.#log });
  }
}

function wantedFor(resolved: ResolvedNetwork, { link, owned }: ReadyBridge): Wanted | undefined {
  const { address, prefix, dhcp = true } = resolved;
  if (!dhcp) return undefined;
  const names = resolverConfig({ ...resolved, owned });
  return { linkIndex: link.index, owned, network: { address, prefix, ...names, mtu: link.mtu } };
}
