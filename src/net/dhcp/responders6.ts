import type { Logger } from '#host';
import { parseAddress6, parseIpv6 } from '#spec';
import type { ReadyBridge } from '../links/bridge.ts';
import type { ResolvedNetwork } from '../links/managed-bridge.ts';
import { type BridgeServer, PerBridge } from '../links/per-bridge.ts';
import { resolverConfig } from '../store/claim.ts';
import { KnownGuests } from '../store/known-guests.ts';
import type { NetworkStore } from '../store/store.ts';
import { Advertiser } from './advertiser.ts';
import { type Admit, Guests6 } from './guests6.ts';
import { byLinkLocal, type Network6, serverIdOf } from './network6.ts';
import { Dhcp6Server } from './server6.ts';

interface Wanted {
  /** A bridge that was made again is another link: a socket bound to the old one receives nothing. */
  readonly linkIndex: number;
  readonly network: Network6;
}

/** This process's router advertisements and DHCPv6 responders, one of each for each managed bridge in use. */
export class Responders6 implements AsyncDisposable {
  readonly #store: NetworkStore;
  readonly #admit: Admit;
  readonly #log: Logger;
  readonly #servers = new PerBridge<Wanted>((bridge, wanted) => this.#open(bridge, wanted));

  constructor(
    store: NetworkStore,
    { admit, log }: { readonly admit: Admit; readonly log: Logger },
  ) {
    this.#store = store;
    this.#admit = admit;
    this.#log = log;
  }

  /**
   * Ensures that they run for the bridge if the network has DHCP and IPv6, with the network's settings as they are now. On
   * a bridge that existed before, others may be the router. A failure is only logged, since guests have their address
   * from the seed, too.
   */
  async ensure(resolved: ResolvedNetwork, ready: ReadyBridge): Promise<void> {
    const { bridge } = resolved;
    try {
      await this.#servers.ensure(bridge, wantedFor(resolved, ready));
    } catch (error) {
      this.#log.warn('no router advertisements and DHCPv6', { bridge, error });
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

  async #open(bridge: string, { network }: Wanted): Promise<BridgeServer> {
    const known = new KnownGuests(this.#store, bridge, byLinkLocal);
    await using stack = new AsyncDisposableStack();
    const guests = stack.use(new Guests6({ bridge, known, admit: this.#admit }));
    const options = { bridge, network, guests, log: this.#log };
    const server = stack.use(await Dhcp6Server.open(options));
    const advertiser = stack.use(await Advertiser.open(options));
    const opened = stack.move();
    this.#log.info('router advertisements and DHCPv6 started', { bridge });
    return {
      get failed() {
        return server.failed || advertiser.failed;
      },
      forget: () => known.forget(),
      [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
    };
  }
}

function wantedFor(
  resolved: ResolvedNetwork,
  { link, owned, address6 }: ReadyBridge,
): Wanted | undefined {
  const address = parseAddress6(address6 ?? '');
  if (address === undefined || !owned || resolved.dhcp === false) return undefined;
  const { nameservers, searches } = resolverConfig({ ...resolved, owned });
  const network = {
    address,
    mac: link.address,
    serverId: serverIdOf(link.address),
    // Ours comes first; it is reached at either address.
    nameservers: [
      ...(searches.length > 0 ? [address.address] : []),
      ...nameservers.flatMap((server) => parseIpv6(server) ?? []),
    ],
    searches,
    mtu: link.mtu,
  };
  return { linkIndex: link.index, network };
}
