import assert from 'node:assert/strict';
import { renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PerFile } from '#host';
import { tmpDir } from '../support/tmp.ts';

/** A file, and queries that count themselves. */
function counted(t: TestContext): {
  readonly path: string;
  readonly query: () => Promise<number>;
} {
  const path = join(tmpDir(t), 'program');
  writeFileSync(path, 'one');
  utimesSync(path, 1, 1);
  let count = 0;
  return { path, query: async () => ++count };
}

test('per file: one query answers every caller, also those that come while it runs', async (t) => {
  const { path, query } = counted(t);
  const answers = new PerFile<number>();
  const both = [answers.get(path, query), answers.get(path, query)];
  assert.deepEqual(await Promise.all(both), [1, 1]);
  assert.equal(await answers.get(path, query), 1);
});

/** Each changes one of the three and leaves the others. */
const changes: Readonly<Record<string, (path: string) => void>> = {
  size: (path) => {
    writeFileSync(path, 'longer');
    utimesSync(path, 1, 1);
  },
  mtime: (path) => utimesSync(path, 2, 2),
  inode: (path) => {
    writeFileSync(`${path}.new`, 'one');
    utimesSync(`${path}.new`, 1, 1);
    renameSync(`${path}.new`, path);
  },
};
for (const [what, change] of Object.entries(changes)) {
  test(`per file: another ${what} makes it a new query`, async (t) => {
    const { path, query } = counted(t);
    const answers = new PerFile<number>();
    assert.equal(await answers.get(path, query), 1);
    change(path);
    assert.equal(await answers.get(path, query), 2);
  });
}

test('per file: a failure is not kept, and those who waited for it query again', async (t) => {
  const { path, query } = counted(t);
  const answers = new PerFile<number>();
  const gate = Promise.withResolvers<number>();
  const first = answers.get(path, () => gate.promise);
  const second = answers.get(path, query);
  gate.reject(new Error('the caller was aborted'));
  await assert.rejects(first, /aborted/);
  assert.equal(await second, 1);
  assert.equal(await answers.get(path, query), 1);
});

test('per file: a file that is missing is an error of its own', async (t) => {
  const { path, query } = counted(t);
  rmSync(path);
  await assert.rejects(new PerFile<number>().get(path, query), { code: 'ENOENT' });
});
