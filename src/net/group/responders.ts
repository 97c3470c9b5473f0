import type { Logger } from '#host';
import { linkLocalOf, parseIpv6 } from '#spec';
import { Advertiser } from '../dhcp/advertiser.ts';
import { serverIdOf } from '../dhcp/network6.ts';
import { DhcpServer } from '../dhcp/server.ts';
import { Dhcp6Server } from '../dhcp/server6.ts';
import type { GroupNic } from '../model/group.ts';
import { tapMac } from '../model/names.ts';
import { pairPrefix, pairPrefix6 } from './plan-pair.ts';

/** What answers a guest's queries in an allocation's namespace: DHCP, and with IPv6 router advertisements and DHCPv6. */
export async function serveGroup(nic: GroupNic, log: Logger): Promise<AsyncDisposable> {
  const { netns, tap, gateway, guest, six, nameservers, searches, mtu } = nic;
  const dns = { servers: nameservers, searches };
  const claim = { ...nic, ip: guest, ports: [], dns, ...(six && { ip6: six.guest }) };
  const link = { bridge: tap, netns, log };
  const common = { nameservers: [], searches: [], mtu };
  await using stack = new AsyncDisposableStack();
  const network = { ...common, address: gateway, prefix: pairPrefix };
  stack.use(await DhcpServer.open({ ...link, network, claims: async () => [claim] }));
  if (six !== undefined) {
    const mac = tapMac(nic.mac);
    const address = { address: parseIpv6(six.gateway) ?? 0n, prefix: pairPrefix6 };
    const network6 = { ...common, address, mac, serverId: serverIdOf(mac) };
    const known = new Map([[linkLocalOf(nic.mac), claim]]);
    // The rules replace the sender of a query by the guest's other address.
    const own = parseIpv6(six.guest);
    const of = async (asker: bigint) => (asker === own ? claim : undefined);
    const options = { ...link, network: network6, guests: { of, all: async () => known } };
    stack.use(await Dhcp6Server.open(options));
    stack.use(await Advertiser.open(options));
  }
  return stack.move();
}
