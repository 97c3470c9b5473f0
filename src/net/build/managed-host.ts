import type { Responders } from '../dhcp/responders.ts';
import type { Responders6 } from '../dhcp/responders6.ts';
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
  readonly responders6: Responders6;
  readonly resolvers: Resolvers;
}

type Servers = Pick<ManagedHost, 'responders' | 'responders6' | 'resolvers'>;

/** Ensures that this process answers the guests of a bridge. */
export async function ensureServers(
  { responders, responders6, resolvers }: Servers,
  network: ResolvedNetwork,
  bridge: ReadyBridge,
): Promise<void> {
  await responders.ensure(network, bridge);
  await responders6.ensure(network, bridge);
  await resolvers.ensure(network, bridge);
}

/** A bridge's guests have changed. */
export function forgetGuests(
  { responders, responders6, resolvers }: Servers,
  bridge: string,
): void {
  responders.forget(bridge);
  responders6.forget(bridge);
  resolvers.forget(bridge);
}
