import type { Link } from '#netlink';
import type { JobAddresses } from '#spec';
import { NetError } from '../model/error.ts';
import { addressesInAlias, ownerInAlias } from '../model/names.ts';
import type { NicAddress } from '../model/nic.ts';

/** What the guest is configured with where the job gives its addresses; undefined where it asks for them. */
export function jobAddress({ ip, ip6, fixed, fixed6 }: JobAddresses): NicAddress | undefined {
  const six = ip6 === undefined || fixed6 === undefined ? undefined : { ip: ip6, ...fixed6 };
  if (ip !== undefined && fixed !== undefined) {
    return { ip, ...fixed, ...(six && { six }), searches: [] };
  }
  return six && { nameservers: [], ...six, searches: [] };
}

/** Refuses an address that another VM of this host has there: of the machines of such a network only these are known. */
export function refuseTakenAddress(
  { vm, ip, ip6 }: JobAddresses & { readonly vm: string },
  place: string,
  others: readonly Pick<Link, 'alias'>[],
): void {
  for (const [key, address] of Object.entries({ ip, ip6 })) {
    const holder = others.find(({ alias }) => addressesInAlias(alias).some((it) => it === address));
    if (holder === undefined) continue;
    const user = ownerInAlias(holder.alias);
    throw new NetError('host', `VM ${vm}: ${key} ${address} on ${place} is taken by VM ${user}`);
  }
}
