import { parseIpv6 } from '#spec';
import type { Claim } from '../store/claim.ts';
import { leaseSeconds } from './lease.ts';
import { type Dhcp6Grant, type Dhcp6Query, type Dhcp6Reply, dhcp6Status } from './message6.ts';
import { type Network6, namesFor } from './network6.ts';

/**
 * The reply to the client that has that claim; undefined for none. It depends on nothing but the arguments, so two
 * processes send the same reply.
 */
export function answer6(
  query: Dhcp6Query,
  claim: Claim,
  network: Network6,
): Dhcp6Reply | undefined {
  const own = parseIpv6(claim.ip6 ?? '');
  if (own === undefined || !isForUs(query, network)) return undefined;
  const reply = common(query, claim, network);
  switch (query.type) {
    case 'solicit':
      return {
        ...reply,
        type: query.rapidCommit ? 'reply' : 'advertise',
        rapidCommit: query.rapidCommit,
        grants: grants(query, own),
      };
    case 'request':
    case 'renew':
    case 'rebind':
      return { ...reply, grants: grants(query, own) };
    case 'confirm':
      return confirm(query, own, reply);
    case 'release':
    case 'decline':
      // It stays the guest's: no other one can have it.
      return { ...reply, status: dhcp6Status.success };
    case 'inform':
      return reply;
    default:
      return query.type satisfies never;
  }
}

/** RFC 8415, 16: to whom a message is addressed, and who must be named in it. */
function isForUs(
  { type, clientId, serverId, associations }: Dhcp6Query,
  network: Network6,
): boolean {
  const isOurs = serverId?.equals(network.serverId);
  switch (type) {
    case 'solicit':
    case 'confirm':
    case 'rebind':
      return clientId !== undefined && serverId === undefined;
    case 'request':
    case 'renew':
    case 'release':
    case 'decline':
      return clientId !== undefined && isOurs === true;
    case 'inform':
      return isOurs !== false && associations.length === 0;
    default:
      return type satisfies never;
  }
}

function common(query: Dhcp6Query, claim: Claim, network: Network6): Dhcp6Reply {
  const { transaction, clientId } = query;
  return {
    type: 'reply',
    transaction,
    clientId,
    serverId: network.serverId,
    rapidCommit: false,
    status: undefined,
    grants: [],
    ...namesFor(claim, network),
  };
}

/** The first association for an address gets the guest's own; what it asks for beside gets nothing. */
function grants({ associations }: Dhcp6Query, own: bigint): readonly Dhcp6Grant[] {
  const first = associations.findIndex(({ kind }) => kind === 'address');
  return associations.map(({ kind, id, addresses }, at) => {
    if (at !== first) {
      const status = kind === 'prefix' ? dhcp6Status.noPrefix : dhcp6Status.noAddress;
      return { kind, id, addresses: [], status };
    }
    const others = addresses.filter((address) => address !== own);
    const given = [
      { address: own, lifetimeSeconds: leaseSeconds },
      ...others.map((address) => ({ address, lifetimeSeconds: 0 })),
    ];
    return { kind, id, addresses: given, status: undefined };
  });
}

/** A client that may have been moved asks whether its addresses are still right (RFC 8415, 18.3.3). */
function confirm(
  { associations }: Dhcp6Query,
  own: bigint,
  reply: Dhcp6Reply,
): Dhcp6Reply | undefined {
  const addresses = associations.flatMap((each) => each.addresses);
  if (addresses.length === 0) return undefined;
  const isRight = addresses.every((address) => address === own);
  return { ...reply, status: isRight ? dhcp6Status.success : dhcp6Status.notOnLink };
}
