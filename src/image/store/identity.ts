import type { BigIntStats } from 'node:fs';

/** The same for a file that nothing was written to: which one it is, its size, and its times. */
export function identityOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
}
