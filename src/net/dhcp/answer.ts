import { formatIpv4, parseIpv4 } from '#spec';
import type { Claim } from '../store/claim.ts';
import { networkSubnet } from '../store/subnets.ts';
import { leaseSeconds } from './lease.ts';
import type { DhcpLease, DhcpQuery, DhcpReply } from './message.ts';

/** The configuration that all guests of a network share. */
export interface DhcpNetwork {
  /** The host's address in it: DHCP server and gateway. */
  readonly address: string;
  readonly prefix: number;
  readonly nameservers: readonly string[];
  /** Domains in which guests look for names without dots. */
  readonly searches: readonly string[];
  readonly mtu: number;
}

const none = '0.0.0.0';

/**
 * The reply to a client whose MAC address has that claim; undefined for none. It depends on nothing but the arguments, so
 * two processes send the same reply.
 */
export function answer(
  query: DhcpQuery,
  claim: Claim,
  network: DhcpNetwork,
): DhcpReply | undefined {
  // Relayed queries come from another network.
  if (query.relayAddress !== none) return undefined;
  // The client has selected another server.
  if (query.serverId !== undefined && query.serverId !== network.address) return undefined;
  // The reply is sent to the address that the client claims to have, which must be its own (RFC 2131, 4.1).
  const { clientAddress } = query;
  if (clientAddress !== none && clientAddress !== claim.ip) {
    return query.type === 'request' ? refuse(query, network) : undefined;
  }
  switch (query.type) {
    case 'discover':
      return give('offer', query, claim, network);
    case 'request':
      return wantedAddress(query) === claim.ip
        ? give('ack', query, claim, network)
        : refuse(query, network);
    case 'inform':
      return inform(query, claim, network);
    case 'decline':
    case 'release':
    case 'offer':
    case 'ack':
    case 'nak':
      return undefined;
    default:
      return query.type satisfies never;
  }
}

/** A client that renews has the address and sends from it (RFC 2131, 4.3.2). */
function wantedAddress(query: DhcpQuery): string {
  return query.requestedAddress ?? query.clientAddress;
}

function give(
  type: 'offer' | 'ack',
  query: DhcpQuery,
  claim: Claim,
  network: DhcpNetwork,
): DhcpReply {
  return {
    ...common(query, network),
    type,
    clientAddress: type === 'ack' ? query.clientAddress : none,
    yourAddress: claim.ip,
    lease: { ...leaseFor(claim, network), leaseSeconds },
  };
}

function inform(query: DhcpQuery, claim: Claim, network: DhcpNetwork): DhcpReply {
  return {
    ...common(query, network),
    type: 'ack',
    clientAddress: query.clientAddress,
    yourAddress: none,
    lease: leaseFor(claim, network),
  };
}

function refuse(query: DhcpQuery, network: DhcpNetwork): DhcpReply {
  return {
    ...common(query, network),
    type: 'nak',
    // A refused client may not use its address and receives broadcasts only.
    broadcast: true,
    clientAddress: none,
    yourAddress: none,
    lease: undefined,
  };
}

function common(
  query: DhcpQuery,
  network: DhcpNetwork,
): Pick<DhcpReply, 'transaction' | 'broadcast' | 'mac' | 'serverId' | 'clientId'> {
  const { transaction, broadcast, mac, clientId } = query;
  return { transaction, broadcast, mac, serverId: network.address, clientId };
}

function leaseFor(claim: Claim, network: DhcpNetwork): DhcpLease {
  const subnet = networkSubnet(network);
  const { servers = [], searches = [] } = claim.dns ?? {};
  // DHCP for IPv4 has no place for other addresses; the seed has.
  const isHere = (server: string): boolean => parseIpv4(server) !== undefined;
  const own = servers.filter(isHere);
  return {
    leaseSeconds: undefined,
    subnetMask: formatIpv4(subnet.mask),
    broadcastAddress: formatIpv4(subnet.broadcast),
    router: claim.isDefaultRoute === false ? undefined : network.address,
    nameservers: own.length > 0 ? own : network.nameservers.filter(isHere),
    // A job's own servers know nothing of the network's names.
    searches: own.length > 0 ? searches : [...searches, ...network.searches],
    hostname: claim.hostname === '' ? undefined : claim.hostname,
    mtu: claim.mtu ?? network.mtu,
  };
}
