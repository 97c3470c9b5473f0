import type { NetworkHost } from './managed-bridge.ts';
import type { Rules } from './nft.ts';
import type { Responders } from './responders.ts';

/** What managed networks are made with. Everything here is used under the store's lock. */
export interface ManagedHost extends NetworkHost {
  readonly rules: Rules;
  readonly responders: Responders;
}
