import { formatIpv4 } from '#spec';
import type { Claim } from '../store/claim.ts';
import { networkSubnet } from '../store/subnets.ts';
import type { DhcpLease, DhcpQuery, DhcpReply } from './message.ts';

/** What every guest of a network is told alike. */
export interface DhcpNetwork {
  /** The host's address in it: the server's, and the guests' way out. */
  readonly address: string;
  readonly prefix: number;
  readonly nameservers: readonly string[];
  readonly mtu: number;
}

const none = '0.0.0.0';
// Ten years: a guest never has to ask again, so it never notices that the plugin was restarted or is away.
const leaseSeconds = 10 * 365 * 24 * 3600;

/**
 * The answer to a client whose MAC address has that claim; undefined when there is nothing to say. Nothing is
 * remembered: the claim decides, so that two processes answering the same question say the same.
 */
export function answer(
  query: DhcpQuery,
  claim: Claim,
  network: DhcpNetwork,
): DhcpReply | undefined {
  // Relayed questions come from another network, and are not for us.
  if (query.relayAddress !== none) return undefined;
  // The client has decided for another server.
  if (query.serverId !== undefined && query.serverId !== network.address) return undefined;
  // An answer goes to the address that the client has: to no other than its own (RFC 2131, 4.1).
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

/** A client that renews has the address already and asks from it (RFC 2131, 4.3.2). */
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
    // A client that is told no may not use its address, and hears broadcasts only.
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
  return {
    leaseSeconds: undefined,
    subnetMask: formatIpv4(subnet.mask),
    broadcastAddress: formatIpv4(subnet.broadcast),
    router: network.address,
    nameservers: network.nameservers,
    hostname: claim.hostname === '' ? undefined : claim.hostname,
    mtu: network.mtu,
  };
}
