import type { Firewall } from '../firewall/firewall.ts';
import type { ReadyBridge } from '../links/bridge.ts';
import type { NetworkHost, ResolvedNetwork } from '../links/managed-bridge.ts';
import type { GuestServers } from '../links/per-bridge.ts';
import type { LastNotes } from '../model/last-notes.ts';
import type { Rules } from '../rules/nft.ts';
import type { Claim } from '../store/claim.ts';

/** Adopting a hundred VMs in sequence, or removing the last one, must not apply the same rules again and again. */
export const rulesFreshMs = 5000;

/** What managed networks are made with. Everything here is used under the store's lock. */
export interface ManagedHost extends NetworkHost {
  readonly rules: Rules;
  /** Rules of other programs. */
  readonly firewall: Firewall;
  /** Which of their ports VMs know that another program leads elsewhere. */
  readonly takenPorts: LastNotes;
  /** What answers guests: DHCP, names. */
  readonly servers: readonly GuestServers[];
  /** Ends connections that are older than the rules of a claim's ports. */
  readonly redirects: AsyncDisposable & { add(claim: Claim): void };
}

/** Ensures that this process answers the guests of a bridge. */
export async function ensureServers(
  { servers }: Pick<ManagedHost, 'servers'>,
  network: ResolvedNetwork,
  bridge: ReadyBridge,
): Promise<void> {
  for (const each of servers) await each.ensure(network, bridge);
}

/** A bridge's guests have changed. */
export function forgetGuests({ servers }: Pick<ManagedHost, 'servers'>, bridge: string): void {
  for (const each of servers) each.forget(bridge);
}
