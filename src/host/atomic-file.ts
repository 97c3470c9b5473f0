import { randomBytes } from 'node:crypto';
import { link, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errnoOf, hostError } from './error.ts';

/**
 * Replaces a file whole: whoever reads the path sees the old content or the new one, never a part. `mode` is exact, the
 * umask does not count. Nothing is synced: a kill of this process at any moment does no harm, a power cut may leave the
 * file empty. Throws HostError 'file'.
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
    throw hostError('file', `writing ${path}`, error);
  }
}

/** Makes a file with all of its content, unless the path exists: then nothing changes and the answer is false. */
export async function createExclusive(
  path: string,
  content: string,
  { mode }: { readonly mode: number },
): Promise<boolean> {
  const draft = draftName(path);
  try {
    await writeDraft(draft, content, mode);
    await link(draft, path); // unlike rename, link refuses to replace
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw hostError('file', `creating ${path}`, error);
  } finally {
    await rm(draft, { force: true });
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
