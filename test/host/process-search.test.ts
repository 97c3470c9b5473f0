import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { type TestContext, test } from 'node:test';
import { findByMark, findByUser, isAlive, kill, type SpawnedProcess, spawnDetached } from '#host';
import { parseUser } from '../../src/host/process/process-search.ts';
import { openedOf } from '../support/opens.ts';

const waiting = (ms = 10_000): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(ms) });

async function sleeper(t: TestContext, mark: string): Promise<SpawnedProcess> {
  const child = await spawnDetached({
    program: '/bin/sh',
    args: ['-c', 'while :; do sleep 60; done', mark],
    stdio: ['ignore', 'ignore', 'ignore'],
  });
  t.after(() => {
    if (isAlive(child.identity)) process.kill(-child.identity.pid, 'SIGKILL');
  });
  return child;
}

test('processes are found by a part of an argument, and none is left when they are killed', async (t) => {
  const mark = randomUUID();
  const children = [await sleeper(t, `dir=/x/${mark}/qmp.sock`), await sleeper(t, mark)];
  const stranger = await sleeper(t, randomUUID());
  const pids = children.map(({ identity }) => identity.pid);
  const found = await findByMark(mark, [], waiting());
  assert.deepEqual(found.map(({ pid }) => pid).toSorted(), pids.toSorted());
  assert.ok(found.every(({ uid, args }) => uid === process.geteuid?.() && args.length >= 4));
  await Promise.all(found.map((identity) => kill(identity, waiting())));
  assert.deepEqual(await findByMark(mark, [], waiting()), []);
  for (const { exit } of children) assert.equal((await exit).signal, 'SIGKILL');
  assert.ok(isAlive(stranger.identity));
});

test('the searcher is never among the found by mark, and an empty mark finds no process', async () => {
  const own = process.argv[1] ?? '';
  const found = await findByMark(own, [], waiting());
  assert.ok(!found.some(({ pid }) => pid === process.pid));
  await assert.rejects(findByMark('', [], waiting()), RangeError);
});

test('a search finds the processes of a user, and ends with its signal', async () => {
  const found = await findByUser(process.geteuid?.() ?? -1, waiting());
  assert.ok(found.some(({ pid }) => pid === process.pid));
  assert.deepEqual(await findByUser(4_000_000_000, waiting()), []);
  await assert.rejects(findByUser(0, { signal: AbortSignal.abort(new Error('enough')) }), /enough/);
});

test('the user of a process is known where it is one', () => {
  const status = (ids: string): string =>
    `Name:\tUid:\nUmask:\t0022\nUid:\t${ids}\nGid:\t0\t0\t0\t0\n`;
  const cases: readonly (readonly [string, number | undefined])[] = [
    ['0\t0\t0\t0', 0],
    ['1900000001\t1900000001\t1900000001\t1900000001', 1900000001],
    // A set-user-ID program: its user is not the one who may hold it up.
    ['1000\t0\t0\t0', undefined],
    ['0\t0\t1000\t0', undefined],
    ['0\t0\t0', undefined],
  ];
  for (const [ids, uid] of cases) assert.equal(parseUser(status(ids)), uid, ids);
  assert.equal(parseUser(''), undefined);
});

test('a search for a user without processes looks at no process', async () => {
  const file = '/proc/1/status';
  const search = async (uid: number): Promise<readonly string[]> =>
    openedOf([file], () => findByUser(uid, waiting()));
  assert.deepEqual(await search(4_000_000_000), []);
  assert.deepEqual(
    await search(process.geteuid?.() ?? -1),
    [file],
    'a user with processes is looked for',
  );
});
