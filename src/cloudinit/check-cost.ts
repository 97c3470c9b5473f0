import { isMessage } from './mime.ts';
import type { UserData } from './user-data-text.ts';

/**
 * Up to this size a text in which nothing is used twice is checked in 30 ms at worst: measured with 60 kinds of text
 * that are hard to read. A thread takes as long to come up.
 */
const plainBytes = 8 * 1024;

/**
 * Whether the time that checkUserData takes for this is bounded whatever it says. Else it may be hours: a YAML alias of
 * a long list that is used as a key is turned into text at each use.
 */
export function isQuickToCheck(userData: UserData): boolean {
  const bytes = Buffer.from(userData);
  if (bytes[0] === 0x1f) return false; // packed: what comes out may be larger
  const text = bytes.toString('latin1');
  // A script is passed on unread; without a `*` YAML has no aliases.
  if (text.startsWith('#!') && !isMessage(text)) return true;
  return bytes.length <= plainBytes && !text.includes('*');
}
