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

/**
 * Up to this size a text without aliases is checked in at most 30 ms: measured with 60 kinds of text that are hard to
 * parse. Starting a thread takes as long.
 */
const plainBytes = 8 * 1024;

/**
 * Whether the time that checkUserData takes is short for any content of this form. Otherwise it may be hours: a YAML
 * alias of a long list that is used as a key is turned into text at each use.
 */
export function isQuickToCheck(userData: UserData): boolean {
  const bytes = Buffer.from(userData);
  if (bytes[0] === 0x1f) return false; // gzip: the unpacked text may be larger
  const text = bytes.toString('latin1');
  // A script is passed on unread. Where the mark makes a message of it depends on the text's encoding, so it counts anywhere.
  if (text.startsWith('#!') && !/mime-version:/i.test(text)) return true;
  // Without a `*` YAML has no aliases.
  return bytes.length <= plainBytes && !text.includes('*');
}
