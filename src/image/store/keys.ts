import { createHash } from 'node:crypto';
import { statAside } from '#host';
import type { ImportRequest } from './import-image.ts';
import { sourceLock } from './locks.ts';

/** The same content, taken apart in the same way, into the same format: wherever the file is, and when. */
export function keyOf({ member, format, to }: ImportRequest, sha256: string): string {
  const parts = ['image', 1, sha256, member ?? null, format ?? null, to ?? null];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/** Requests for the same image have the same one, whatever the name of the file. */
export async function sourceLockOf({ file, member, format, to }: ImportRequest): Promise<string> {
  const { size } = await statAside(file.fd);
  return sourceLock(size, member ?? null, format ?? null, to ?? null);
}
