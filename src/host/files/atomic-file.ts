import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { hostError } from '../error.ts';

/**
 * Replaces a file atomically: a reader of the path sees the old content or the new one, never a part. `mode` is exact,
 * the umask is not applied. Nothing is synced: a kill of this process at any moment leaves the path complete and at most
 * a draft beside it, whose name begins with a dot; a power cut may leave the file empty. Throws HostError.
 */
export async function writeAtomic(
  path: string,
  content: string | Uint8Array,
  { mode }: { readonly mode: number },
): Promise<void> {
  const draft = draftName(path);
  try {
    await writeDraft(draft, content, mode);
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true });
    throw hostError(`writing ${path}`, error);
  }
}

/** Beside the file, since a rename does not cross file systems. */
function draftName(path: string): string {
  return join(dirname(path), `.${basename(path).slice(0, 200)}.${randomBytes(6).toString('hex')}`);
}

async function writeDraft(draft: string, content: string | Uint8Array, mode: number) {
  await using file = await open(draft, 'wx', mode);
  await file.chmod(mode);
  await file.writeFile(content);
}
