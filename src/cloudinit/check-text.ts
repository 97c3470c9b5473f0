import { checkNetworkConfig } from './network-text.ts';
import { checkUserData } from './user-data.ts';
import type { UserData } from './user-data-text.ts';

/** A text of a job's that cloud-init reads, by the job's key. */
export type SeedText =
  | { readonly key: 'user_data'; readonly data: UserData }
  | { readonly key: 'network_config'; readonly data: string };

/** What would prevent cloud-init from using it, a sentence each. Takes any time, see isQuickToCheck. */
export function checkSeedText(text: SeedText): readonly string[] {
  return text.key === 'user_data' ? checkUserData(text.data) : checkNetworkConfig(text.data);
}
