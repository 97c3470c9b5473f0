import {
  formatIpv4,
  isLoopback,
  type ManagedNetwork,
  overlap,
  type PortSpec,
  parseIpv4,
  type Subnet,
  subnetOf,
} from '#spec';
import type { Claim, NetworkInUse, NetworkRecord } from './claim.ts';
import { NetError } from './error.ts';
import { bridgeMac, nicMac, ownAlias, startingPoint, tapName } from './names.ts';
import type { NicRequest } from './nic.ts';

/** What a NIC will be called on the host. */
export interface NetPlan {
  readonly tap: string;
  readonly mac: string;
  readonly bridge: string;
  readonly managed: boolean;
}

/** What was found under the name of a managed bridge. */
export interface BridgeFound {
  readonly kind: string | undefined;
  readonly alias: string;
  readonly mac: string;
  readonly addresses: readonly { readonly address: string; readonly prefix: number }[];
}

/** `create` it, go on with `own` one, or use a `foreign` one as it is. */
export type BridgePlan = 'create' | 'own' | 'foreign';

export function planBridge(network: ManagedNetwork, found: BridgeFound | undefined): BridgePlan {
  const { bridge, address, prefix } = network;
  if (found === undefined) return 'create';
  if (found.kind !== 'bridge') {
    throw new NetError(
      'host',
      `link ${bridge} exists and is not a bridge (${found.kind ?? 'hardware'})`,
    );
  }
  const has = found.addresses.some((own) => own.address === address && own.prefix === prefix);
  // Ours but without its address: a start was interrupted between the two, and is taken up again.
  const ours = ownsBridge({ name: bridge, ...found });
  if (ours && (has || found.addresses.length === 0)) return 'own';
  if (has) return 'foreign';
  const its =
    found.addresses.map((own) => `${own.address}/${own.prefix}`).join(', ') || 'no address';
  throw new NetError(
    'host',
    `bridge ${bridge} exists with ${its}, but the network ${bridge} is configured as ${address}/${prefix}: ` +
      `configure the network with the bridge's own address, or give it another bridge`,
  );
}

/**
 * Whether the driver made a bridge. Its MAC address is given in the very message that makes it and the alias only after
 * that: either tells, so that it is known as ours also when the process died between the two.
 */
export function ownsBridge(link: {
  readonly name: string;
  readonly kind: string | undefined;
  readonly alias: string;
  readonly mac: string;
}): boolean {
  if (link.kind !== 'bridge') return false;
  return link.alias === ownAlias || (link.alias === '' && link.mac === bridgeMac(link.name));
}

/** The names of a NIC; `taken` are the links that exist. */
export function planNic(
  request: NicRequest,
  managed: boolean,
  taken: ReadonlySet<string>,
): NetPlan {
  const { vm, index, bridge } = request;
  for (let attempt = 0; attempt < 16; attempt++) {
    const tap = tapName(vm, index, attempt);
    if (!taken.has(tap)) return { tap, mac: nicMac(vm, index), bridge, managed };
  }
  throw new NetError('host', `VM ${vm}: every name for the tap of NIC ${index} is taken`);
}

/**
 * An address for a NIC: the one it has, else the first free one from a place that its name decides, so that the same
 * VM tends to get the same address again. `avoid` are addresses somebody else was seen to use.
 */
export function planAddress(
  request: NicRequest,
  network: ManagedNetwork,
  facts: { readonly claims: readonly Claim[]; readonly avoid: ReadonlySet<string> },
): string {
  const { vm, index } = request;
  const own = facts.claims.find((claim) => claim.vm === vm && claim.index === index);
  if (own !== undefined) return own.ip;
  const subnet = networkSubnet(network);
  const claimed = new Set(facts.claims.map(({ ip }) => ip));
  const count = subnet.broadcast - subnet.network - 1;
  const start = startingPoint(vm, index, count);
  for (let step = 0; step < count; step++) {
    const ip = formatIpv4(subnet.network + 1 + ((start + step) % count));
    if (ip !== network.address && !claimed.has(ip) && !facts.avoid.has(ip)) return ip;
  }
  throw new NetError(
    'host',
    `VM ${vm}: no free address in network ${network.bridge} (${network.address}/${network.prefix}, ` +
      `${facts.claims.length} in use)`,
  );
}

/** Refuses ports that can't be mapped whoever else is there. */
export function checkPorts({ vm, bridge, ports }: NicRequest): void {
  for (const [at, port] of ports.entries()) {
    const what = `VM ${vm}: port ${port.label} on ${where(port)}`;
    if (port.hostIp !== '' && parseIpv4(port.hostIp) === undefined) {
      throw refusal(`${what}: bridge ${bridge} has IPv4 only`);
    }
    if (ports.slice(0, at).some((other) => overlaps(port, other))) {
      throw refusal(`${what}: asked for twice`);
    }
  }
}

function refusal(message: string): NetError {
  return new NetError('job', message);
}

/** Another NIC that has one of the ports wanted. */
export interface PortConflict {
  readonly bridge: string;
  readonly claim: Claim;
  readonly port: PortSpec;
}

/** Every other NIC, in whichever network, that has a port which this request wants. */
export function findConflicts(
  request: NicRequest,
  networks: readonly NetworkInUse[],
): readonly PortConflict[] {
  return networks.flatMap(({ record: { bridge }, claims }) =>
    claims.flatMap((claim) => {
      if (claim.vm === request.vm && claim.index === request.index) return [];
      const port = request.ports.find((own) => claim.ports.some((other) => overlaps(own, other)));
      return port === undefined ? [] : [{ bridge, claim, port }];
    }),
  );
}

export function portTaken({ vm }: NicRequest, { port, claim }: PortConflict): NetError {
  const what = `VM ${vm}: port ${port.label} on ${where(port)}`;
  return new NetError('host', `${what} is already mapped to VM ${claim.vm}`);
}

export function portListenedOn({ vm }: NicRequest, port: PortSpec): NetError {
  const what = `VM ${vm}: port ${port.label} on ${where(port)}`;
  return new NetError(
    'host',
    `${what} can't be mapped: something on this host listens there already`,
  );
}

function where({ hostIp, hostPort }: PortSpec): string {
  return `${hostIp === '' ? '*' : hostIp}:${hostPort}`;
}

/** Whether any of the ports is reachable at a loopback address only. */
export function wantsLoopback(ports: readonly PortSpec[]): boolean {
  return ports.some(({ hostIp }) => isLoopback(parseIpv4(hostIp) ?? 0));
}

export function networkSubnet(network: { address: string; prefix: number }): Subnet {
  return subnetOf(parseIpv4(network.address) ?? 0, network.prefix);
}

/** Another network that is in use and shares addresses with this one. */
export function overlappingNetwork(
  network: ManagedNetwork,
  records: readonly NetworkRecord[],
): NetworkRecord | undefined {
  const subnet = networkSubnet(network);
  return records.find(
    (record) => record.bridge !== network.bridge && overlap(subnet, networkSubnet(record)),
  );
}

function overlaps(one: PortSpec, other: PortSpec): boolean {
  if (one.hostPort !== other.hostPort) return false;
  return one.hostIp === other.hostIp || one.hostIp === '' || other.hostIp === '';
}
