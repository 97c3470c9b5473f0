import { formatIpv6, isLinkLocal6, linkLocalOf, parseIpv6, type Waiting } from '#spec';
import { Advertiser } from '../dhcp/advertiser.ts';
import { serverIdOf } from '../dhcp/network6.ts';
import { OnlyGuest } from '../dhcp/only-guest.ts';
import { byMac, DhcpServer } from '../dhcp/server.ts';
import { Dhcp6Server } from '../dhcp/server6.ts';
import type { GroupNic } from '../model/group.ts';
import { tapMac } from '../model/names.ts';
import { listElements } from '../rules/run-nft.ts';
import type { GroupHost } from './group-host.ts';
import { groupTables } from './group-rules.ts';
import { ownAddresses } from './group-rules6.ts';
import { pairPrefix, pairPrefix6 } from './plan-pair.ts';

/** What answers a guest's queries in an allocation's namespace: DHCP, and with IPv6 router advertisements and DHCPv6. */
export async function serveGroup(
  nic: GroupNic,
  { nft, log }: Pick<GroupHost, 'nft' | 'log'>,
): Promise<AsyncDisposable> {
  const { netns, tap, gateway, guest, six, nameservers, searches, mtu } = nic;
  const dns = { servers: nameservers, searches };
  const claim = { ...nic, ip: guest, ports: [], dns, ...(six && { ip6: six.guest }) };
  const link = { bridge: tap, netns, log };
  const common = { nameservers: [], searches: [], mtu };
  await using stack = new AsyncDisposableStack();
  const network = { ...common, address: gateway, prefix: pairPrefix };
  const guests4 = { get: async () => byMac([claim]), forget: () => {} };
  stack.use(await DhcpServer.open({ ...link, network, guests: guests4 }));
  if (six !== undefined) {
    const mac = tapMac(nic.mac);
    const address = { address: parseIpv6(six.gateway) ?? 0n, prefix: pairPrefix6 };
    const network6 = { ...common, address, mac, serverId: serverIdOf(mac) };
    const noted = (waiting: Waiting) => notedAddresses(nic, nft, waiting);
    const guests = stack.use(new OnlyGuest({ claim, noted }));
    const options = { ...link, network: network6, guests };
    stack.use(await Dhcp6Server.open(options));
    stack.use(await Advertiser.open(options));
  }
  return stack.move();
}

/** The link-local addresses that the guest may send from, beside that of its MAC address. */
async function notedAddresses(
  { tap, mac, netns }: GroupNic,
  nft: string,
  waiting: Waiting,
): Promise<readonly string[]> {
  const [frames = ''] = groupTables({ tap });
  const set = ['set', ...frames.split(' '), ownAddresses];
  const listed = await listElements('the addresses of a guest', set, { nft, netns }, waiting);
  return [...listed.matchAll(/" \. ([0-9a-f:]+)/g)]
    .map(([, text = '']) => parseIpv6(text) ?? 0n)
    .filter((address) => isLinkLocal6(address) && address !== linkLocalOf(mac))
    .map(formatIpv6);
}
