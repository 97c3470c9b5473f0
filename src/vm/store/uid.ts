import { createHash } from 'node:crypto';
import { mkdir, readdir, readlink, rm, symlink } from 'node:fs/promises';
import { basename } from 'node:path';
import { errnoOf, findByUser, waitGone, within } from '#host';
import type { Waiting } from '#spec';
import { VmError } from '../error.ts';
import type { UidRange } from '../vm-host.ts';

const dyingMs = 1000;

/**
 * Finds a user id that no other VM of this data directory has. A claim is a symbolic link named after the id, which
 * points at the VM's name: the link is created atomically, by one process only, and needs no other file.
 */
export async function claimUid(
  name: string,
  { dir, range }: { readonly dir: string; readonly range: UidRange },
  perform: (file: string, action: () => Promise<boolean>) => Promise<boolean>,
  waiting: Waiting,
): Promise<number> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const size = range.max - range.min + 1;
  const start = createHash('sha256').update(name).digest().readUInt32BE(0) % size;
  for (let step = 0; step < size; step += 1) {
    const uid = range.min + ((start + step) % size);
    const file = `${dir}/${uid}`;
    // A process of that user without a claim belongs to another data directory, or could not be ended.
    if ((await isTaken(file)) || (await findByUser(uid, waiting)).length > 0) continue;
    const made = await perform(file, () => claim(file, name));
    if (made) return uid;
  }
  throw new VmError('host', `all ${size} user ids from ${range.min} to ${range.max} are in use`, {
    recoverable: true,
  });
}

/**
 * Releases a claim, unless another VM has it by now. Throws VmError while a process still has the id: the next VM must
 * not share its user with an emulator that could not be ended.
 */
export async function releaseUid(file: string, name: string, waiting: Waiting): Promise<void> {
  if ((await ownerOf(file)) !== name) return;
  for (const left of await findByUser(Number(basename(file)), waiting)) {
    // A process that is exiting loses its arguments, by which it is found, before its user id.
    using dying = within(dyingMs, waiting);
    await waitGone(left, dying).catch((cause: unknown) => {
      const text = `process ${left.pid} still runs as user ${basename(file)}`;
      throw new VmError('host', text, { cause });
    });
  }
  await rm(file, { force: true });
}

/** All claims of a data directory. */
export async function uidClaims(
  dir: string,
): Promise<readonly { readonly file: string; readonly name: string }[]> {
  const files = (await namesIn(dir)).map((name) => `${dir}/${name}`);
  const claims = await Promise.all(
    files.map(async (file) => ({ file, name: (await ownerOf(file)) ?? '' })),
  );
  return claims.filter(({ name }) => name !== '');
}

async function namesIn(dir: string): Promise<readonly string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

async function claim(file: string, name: string): Promise<boolean> {
  try {
    await symlink(name, file);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  }
}

async function isTaken(file: string): Promise<boolean> {
  return (await ownerOf(file)) !== undefined;
}

async function ownerOf(file: string): Promise<string | undefined> {
  try {
    return await readlink(file);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
