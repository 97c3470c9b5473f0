import { formatIpv6, type Waiting } from '#spec';
import type { Asked } from '../rules/anti-spoofing6.ts';
import { type Claim, linkLocalsOf, type NetworkInUse } from '../store/claim.ts';
import type { ManagedHost } from './managed-host.ts';

// A guest may try every address of its network, and each is an event of its task.
const maxForEach = 4;

const remedy =
  'Guests made from one image choose the same one where the image has a machine-id or secret_key: remove /etc/machine-id and ' +
  '/var/lib/NetworkManager/secret_key from it, or have guests make the address from their MAC addresses';

/** A link-local address of two guests. */
interface Contest {
  readonly bridge: string;
  readonly address: bigint;
  /** The guest that does not get it. */
  readonly asking: Claim;
  /** The one that has it, or asks for it as well. */
  readonly other: Claim;
}

/**
 * Reports to each VM once which link-local addresses its guest asks with and does not get, because another guest has them:
 * its questions are not answered, and nothing in the guest shows why.
 */
export async function reportContested(
  networks: readonly NetworkInUse[],
  host: Pick<ManagedHost, 'store' | 'rules' | 'log' | 'onEvent'>,
  waiting: Waiting,
): Promise<void> {
  const { store, rules } = host;
  const claims = networks.flatMap((network) => network.claims);
  // Only an address that a guest chose is one of two guests.
  if (claims.every(({ linkLocals = [] }) => linkLocals.length === 0)) return;
  const asked = await rules.contested(waiting);
  if (contestsIn(await store.networks(), asked).length === 0) return;
  await using _ = await store.lock(waiting);
  for (const contest of contestsIn(await store.networks(), asked))
    await reportContest(contest, host);
}

/** Those that are not reported yet. */
function contestsIn(
  networks: readonly NetworkInUse[],
  asked: readonly Asked[],
): readonly Contest[] {
  return networks.flatMap(({ record: { bridge }, claims }) =>
    asked.flatMap(({ tap, address }) => {
      const asking = claims.find((claim) => claim.tap === tap && isNew(claim, address));
      const other = claims.find((claim) => linkLocalsOf(claim).includes(address));
      if (asking === undefined || other === undefined) return [];
      return [{ bridge, address, asking, other }];
    }),
  );
}

function isNew({ contested = [] }: Claim, address: bigint): boolean {
  return contested.length < maxForEach && !contested.includes(formatIpv6(address));
}

/** Unless it was before. The caller holds the lock. */
export async function reportContest(
  { bridge, address, asking: { ip, vm }, other }: Contest,
  { store, log, onEvent }: Pick<ManagedHost, 'store' | 'log' | 'onEvent'>,
): Promise<void> {
  const claim = await store.claim(bridge, ip);
  if (claim?.vm !== vm || !isNew(claim, address)) return;
  const text = formatIpv6(address);
  await store.keepClaim(bridge, { ...claim, contested: [...(claim.contested ?? []), text] });
  log.warn('link-local address of two guests', { vm, other: other.vm, bridge, address: text });
  onEvent(
    vm,
    `Its link-local address ${text} on ${bridge} is that of VM ${other.vm} as well: the guest gets no answer about IPv6 there. ${remedy}`,
  );
}
