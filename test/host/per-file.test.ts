import assert from 'node:assert/strict';
import { renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { abortable, PerFile } from '#host';
import type { Waiting } from '#spec';
import { tmpDir } from '../support/tmp.ts';

const waiting = (): Waiting => ({ signal: AbortSignal.timeout(10_000) });

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
  const both = [answers.get(path, query, waiting()), answers.get(path, query, waiting())];
  assert.deepEqual(await Promise.all(both), [1, 1]);
  assert.equal(await answers.get(path, query, waiting()), 1);
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
    assert.equal(await answers.get(path, query, waiting()), 1);
    change(path);
    assert.equal(await answers.get(path, query, waiting()), 2);
  });
}

/** A query that ends when it is released or its signal aborts. */
function held(): {
  readonly query: (waiting: Waiting) => Promise<number>;
  readonly release: PromiseWithResolvers<number>;
  readonly signals: readonly AbortSignal[];
} {
  const release = Promise.withResolvers<number>();
  const signals: AbortSignal[] = [];
  const query = (waiting: Waiting): Promise<number> => {
    signals.push(waiting.signal);
    return abortable(release.promise, waiting);
  };
  return { query, release, signals };
}

test('per file: a caller who stops waiting gets the reason at once, and the others the answer', async (t) => {
  for (const leaver of [0, 1] as const) {
    const { path } = counted(t);
    const { query, release, signals } = held();
    const answers = new PerFile<number>();
    const callers = [new AbortController(), new AbortController()] as const;
    const both = callers.map((it) => answers.get(path, query, it));
    const reason = new Error('the task was destroyed');
    callers[leaver].abort(reason);
    await assert.rejects(both[leaver] ?? assert.fail(), reason);
    release.resolve(7);
    assert.equal(await both[1 - leaver], 7);
    assert.deepEqual(
      signals.map((it) => it.aborted),
      [false],
    );
  }
});

test('per file: the query ends when its last caller stops waiting, and a later caller starts another', async (t) => {
  const { path, query } = counted(t);
  const { query: endless, signals } = held();
  const answers = new PerFile<number>();
  const callers = [new AbortController(), new AbortController()];
  const both = callers.map((it) => answers.get(path, endless, it));
  for (const it of callers) it.abort(new Error('the task was destroyed'));
  for (const it of both) await assert.rejects(it, /destroyed/);
  assert.deepEqual(
    signals.map((it) => it.aborted),
    [true],
  );
  assert.equal(await answers.get(path, query, waiting()), 1);
});

test('per file: a failure is that of all who wait for it, after one query, and is not kept', async (t) => {
  const { path, query } = counted(t);
  const answers = new PerFile<number>();
  let queries = 0;
  const failing = async (): Promise<number> => {
    queries += 1;
    throw new Error('it does not start');
  };
  const all = Array.from({ length: 5 }, () => answers.get(path, failing, waiting()));
  for (const it of all) await assert.rejects(it, /does not start/);
  assert.equal(queries, 1);
  assert.equal(await answers.get(path, query, waiting()), 1);
});

test('per file: a file that is missing is an error of its own', async (t) => {
  const { path, query } = counted(t);
  rmSync(path);
  await assert.rejects(new PerFile<number>().get(path, query, waiting()), { code: 'ENOENT' });
});
