import { listAddresses } from '#netlink';
import { formatSubnet, type Waiting } from '#spec';
import type { BridgeGuests } from '../firewall/firewall.ts';
import { asHostHas } from '../links/host-ipv6.ts';
import type { NicRequest } from '../model/nic.ts';
import type { PublishedElsewhere } from '../rules/published-rule.ts';
import type { Claim, NetworkInUse, NetworkRecord } from '../store/claim.ts';
import { networkSubnet, prefixOf } from '../store/subnets.ts';
import type { ManagedHost } from './managed-host.ts';
import { gateway6 } from './plan-address6.ts';
import { findPublisher, where } from './plan-ports.ts';
import { publishedElsewhere } from './ports.ts';
import { joined } from './repair.ts';

const maxNamed = 8;

/** What a VM that starts has to know of its bridge, and of the host's firewall. */
export async function notesAtStart(
  request: NicRequest,
  host: ManagedHost,
  waiting: Waiting,
): Promise<readonly string[]> {
  if (request.kind !== 'bridge') return [];
  const { vm, bridge } = request;
  const record = await host.store.record(bridge);
  const notes = await host.firewall.notes(guestsOf(bridge, record), vm, waiting);
  return record?.owned === false ? [foundBridge(bridge), ...notes] : notes;
}

function foundBridge(bridge: string): string {
  return (
    `Bridge ${bridge} was not made by the driver, which filters nothing there and does not keep the guest from the host. ` +
    "Where another DHCP server answers, a guest that reads no seed gets another address than the driver's"
  );
}

/** What other programs' rules do to VMs since they started; `unmanaged` are bridges of others with their VMs. */
export async function reportOtherRules(
  host: ManagedHost,
  unmanaged: ReadonlyMap<string, readonly string[]>,
  waiting: Waiting,
): Promise<void> {
  const networks = await host.store.networks();
  await reportTakenPorts(networks, host, waiting);
  await reportFirewall({ networks, unmanaged }, host, waiting);
}

/** A firewall that was started, or changed, after the VMs. */
async function reportFirewall(
  {
    networks,
    unmanaged,
  }: {
    readonly networks: readonly NetworkInUse[];
    readonly unmanaged: ReadonlyMap<string, readonly string[]>;
  },
  host: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  const managed = networks.map(({ record, claims }) => {
    const vms = joined(claims, host).map(({ vm }) => vm);
    return { guests: guestsOf(record.bridge, record), vms };
  });
  const others = [...unmanaged]
    .filter(([bridge]) => networks.every(({ record }) => record.bridge !== bridge))
    .map(([bridge, vms]) => ({ guests: guestsOf(bridge, undefined), vms }));
  for (const { guests, vms } of [...managed, ...others]) {
    if (vms.length === 0) continue;
    const news = await host.firewall.news(guests, [...new Set(vms)], waiting);
    for (const vm of news?.vms ?? []) host.onEvent(vm, news?.note ?? '');
  }
}

/** On a bridge of others the host is none of theirs, and where guests may reach all of it, it is the operator's to open. */
function guestsOf(bridge: string, record: NetworkRecord | undefined): BridgeGuests {
  if (record === undefined) return { bridge, hasIpv6: false, isServed: false, isManaged: false };
  const hasIpv6 = gateway6(asHostHas(record)) !== undefined;
  const isServed = record.owned && record.hostAccess === 'closed';
  const subnets = [formatSubnet(networkSubnet(record)), ...prefixOf(record)];
  return { bridge, hasIpv6, isServed, isManaged: true, subnets };
}

/**
 * Reports to each VM once which of its ports another program, such as kube-proxy, has begun to lead elsewhere while it runs.
 * Either may get a connection: the kernel asks the program first whose chain is the newest.
 */
async function reportTakenPorts(
  networks: readonly NetworkInUse[],
  host: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  const claims = joined(
    networks.flatMap((network) => network.claims),
    host,
  ).filter(({ ports }) => ports.length > 0);
  const published = claims.length === 0 ? [] : await publishedElsewhere(host, waiting);
  const addresses = published.length === 0 ? [] : await listAddresses(host.netlink, waiting);
  const local = addresses.map(({ address }) => address);
  const byVm = Map.groupBy(claims, ({ vm }) => vm);
  const notes = [...byVm].flatMap(([vm, own]) => {
    const taken = own.flatMap((claim) => takenOf(claim, published, local));
    return taken.length === 0 ? [] : [[vm, noteOf(taken)] as const];
  });
  for (const [vm, note] of host.takenPorts.news(new Map(notes))) {
    host.log.warn('rules of another program lead ports of a VM elsewhere', { vm });
    host.onEvent(vm, note);
  }
}

interface Taken {
  /** The port's label and place on the host. */
  readonly port: string;
  readonly chain: string;
}

function takenOf(
  { ports, ip6 }: Claim,
  published: readonly PublishedElsewhere[],
  local: readonly string[],
): readonly Taken[] {
  const own = local.filter((address) => ip6 !== undefined || !address.includes(':'));
  return ports.flatMap((port) => {
    const taken = findPublisher([port], published, own);
    if (taken === undefined) return [];
    return [{ port: `${port.label} on ${where(port)}`, chain: taken.chain }];
  });
}

function noteOf(all: readonly Taken[]): string {
  const named = all.slice(0, maxNamed);
  const more = all.length > named.length ? [`${all.length - named.length} more`] : [];
  const ports = [...named.map(({ port, chain }) => `${port} (chain ${chain})`), ...more];
  const commands = [...new Set(named.map(({ chain }) => listing(chain)))];
  return (
    `Rules of another program lead published ports elsewhere: ${ports.join(', ')}. Connections there reach one or the ` +
    `other: give that program, or the task, another port. To see the rules: ${commands.join('; ')}`
  );
}

/** iptables shows comments of its rules, which name the service of a port, and nft does not. */
function listing(chain: string): string {
  const [, six, name] = /^ip(6?) nat ([A-Z]\S*)$/.exec(chain) ?? [];
  if (name === undefined) return `nft list chain ${chain}`;
  return `ip${six}tables -t nat -S ${name}`;
}
