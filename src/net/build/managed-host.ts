import type { Responders } from '../dhcp/responders.ts';
import type { NetworkHost } from '../links/managed-bridge.ts';
import type { Rules } from '../rules/nft.ts';

/** Adopting a hundred VMs in sequence, or removing the last one, must not apply the same rules again and again. */
export const rulesFreshMs = 5000;

/** What managed networks are made with. Everything here is used under the store's lock. */
export interface ManagedHost extends NetworkHost {
  readonly rules: Rules;
  readonly responders: Responders;
}
