import { listAddresses } from '#netlink';
import { formatIpv6, parseIpv6, type Waiting } from '#spec';
import { type Claim, linkLocalsOf } from '../store/claim.ts';
import { reportContest } from './contested.ts';
import { forgetGuests, type ManagedHost } from './managed-host.ts';

// A guest has one; one that draws a new address at each boot, or each day, has some of late.
const maxForEach = 4;

/**
 * Makes a link-local address that a guest of the bridge asks with the guest's own, from now on and for later plugins,
 * unless it is another's already: first come, first served. It takes the place of the oldest of more than a few.
 */
export async function admitLinkLocal(
  { bridge, address }: { readonly bridge: string; readonly address: bigint },
  host: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  const { store, rules, netlink, log } = host;
  const taps = await rules.strangers(address, waiting);
  if (taps.length === 0) return;
  await using _ = await store.lock(waiting);
  const claims = await store.claims(bridge);
  // Another process may have admitted it meanwhile.
  if (claims.some((claim) => linkLocalsOf(claim).includes(address))) return;
  const text = formatIpv6(address);
  const asking = claims.filter(({ tap, ip6 }) => ip6 !== undefined && taps.includes(tap));
  const [claim, second] = asking;
  if (claim === undefined) return;
  if (second !== undefined) {
    // Which one came first is not known: none gets it.
    for (const each of asking) {
      const other = each === claim ? second : claim;
      await reportContest({ bridge, address, asking: each, other }, host);
    }
    return;
  }
  const own = await listAddresses(netlink, waiting);
  if (own.some((each) => parseIpv6(each.address) === address)) return;
  await store.keepClaim(bridge, { ...claim, linkLocals: renewed(claim, text) });
  await rules.apply(waiting);
  forgetGuests(host, bridge);
  log.debug('link-local address of a guest admitted', { vm: claim.vm, bridge, address: text });
}

function renewed({ linkLocals = [] }: Claim, address: string): readonly string[] {
  return [...linkLocals, address].slice(-maxForEach);
}
