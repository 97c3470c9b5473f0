import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { claimUid, releaseUid } from '../../src/vm/store/uid.ts';
import { tmpDir } from '../support/tmp.ts';

const waiting = { signal: AbortSignal.timeout(60_000) };
const at = (_file: string, make: () => Promise<boolean>): Promise<boolean> => make();

test('V-129: of many VMs that look for a user id at once, each gets its own', async (t) => {
  const dir = join(tmpDir(t), 'uids');
  const range = { min: 5000, max: 5039 };
  const names = Array.from({ length: 40 }, (_, index) => `vm-${index}`);
  const uids = await Promise.all(names.map((name) => claimUid(name, { dir, range }, at, waiting)));
  assert.deepEqual(
    uids.toSorted(),
    names.map((_, index) => 5000 + index),
  );
  await assert.rejects(claimUid('one-more', { dir, range }, at, waiting), {
    code: 'host',
    message: 'all 40 user ids from 5000 to 5039 are in use',
    recoverable: true,
  });
  // A release that comes late, when the id is another VM's already, takes nothing from it.
  await releaseUid(join(dir, String(uids[0])), 'vm-1', waiting);
  assert.equal(readdirSync(dir).length, 40);
  for (const [index, uid] of uids.entries()) {
    await releaseUid(join(dir, String(uid)), names[index] ?? '', waiting);
    await releaseUid(join(dir, String(uid)), names[index] ?? '', waiting);
  }
  assert.deepEqual(readdirSync(dir), []);
});

test('a VM tends to get the same user id again', async (t) => {
  const dir = join(tmpDir(t), 'uids');
  const range = { min: 5000, max: 5999 };
  const first = await claimUid('vm-1', { dir, range }, at, waiting);
  await releaseUid(join(dir, String(first)), 'vm-1', waiting);
  assert.equal(await claimUid('vm-1', { dir, range }, at, waiting), first);
});
