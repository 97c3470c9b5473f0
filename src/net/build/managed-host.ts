import type { Responders } from '../dhcp/responders.ts';
import type { Resolvers } from '../dns/resolvers.ts';
import type { ReadyBridge } from '../links/bridge.ts';
import type { NetworkHost, ResolvedNetwork } from '../links/managed-bridge.ts';
import type { Rules } from '../rules/nft.ts';

/** Adopting a hundred VMs in sequence, or removing the last one, must not apply the same rules again and again. */
export const rulesFreshMs = 5000;

/** What managed networks are made with. Everything here is used under the store's lock. */
export interface ManagedHost extends NetworkHost {
  readonly rules: Rules;
  readonly responders: Responders;
  readonly resolvers: Resolvers;
}

/** Ensures that this process answers the guests of a bridge. */
export async function ensureServers(
  { responders, resolvers }: Pick<ManagedHost, 'responders' | 'resolvers'>,
  network: ResolvedNetwork,
  bridge: ReadyBridge,
): Promise<void> {
  await responders.ensure(network, bridge);
  await resolvers.ensure(network, bridge);
}

/** A bridge's guests have changed. */
export function forgetGuests(
  { responders, resolvers }: Pick<ManagedHost, 'responders' | 'resolvers'>,
  bridge: string,
): void {
  responders.forget(bridge);
  resolvers.forget(bridge);
}
