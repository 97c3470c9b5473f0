import type { Logger } from '#host';
import type { ServerKind } from '../links/per-bridge.ts';
import { resolverConfig } from '../store/claim.ts';
import { KnownGuests } from '../store/known-guests.ts';
import type { NetworkStore } from '../store/store.ts';
import type { DhcpNetwork } from './answer.ts';
import { byMac, DhcpServer, dhcpSockets } from './server.ts';

interface Wanted {
  readonly owned: boolean;
  readonly network: DhcpNetwork;
}

/** DHCP, in networks that have it. Guests have their address from the seed, too. */
export function dhcpResponders(store: NetworkStore, log: Logger): ServerKind<Wanted> {
  return {
    missing: 'no DHCP responder',
    wanted: (resolved, { link, owned }) => {
      const { address, prefix, dhcp = true } = resolved;
      if (!dhcp) return undefined;
      const names = resolverConfig({ ...resolved, owned });
      return { owned, network: { address, prefix, ...names, mtu: link.mtu } };
    },
    open: async (bridge, { owned, network }, running) => {
      if (!owned && dhcpSockets() > running) {
        const message =
          'no DHCP responder: another server has the port, and the bridge is not ours';
        log.info(message, { bridge });
        return undefined;
      }
      const guests = new KnownGuests(store, bridge, byMac);
      return await DhcpServer.open({ bridge, network, guests, log });
    },
  };
}
