import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';
import { tmpDir } from '../support/tmp.ts';

const root = resolve(import.meta.dirname, '../..');

const source = `import { test } from 'node:test';
test('one', (t) => t.assert.snapshot('now'));
test('two', () => {});
test('three', () => { throw new Error('broken'); });
`;

/** A file of tests of its own, and npm test with these arguments and that file. */
function project(t: TestContext) {
  const file = join(tmpDir(t), 'some.test.ts');
  writeFileSync(file, source);
  const run = (...args: readonly string[]) => {
    // Without the variable that makes node:test take the other one for its own.
    const { NODE_TEST_CONTEXT: _, CI: _ci, ...env } = process.env;
    return spawnSync(process.execPath, ['scripts/test.ts', ...args], {
      cwd: root,
      encoding: 'utf8',
      env,
    });
  };
  return { file, run };
}

test('npm test -- FILE runs one file; --only those tests of it whose names match', (t) => {
  const { file, run } = project(t);
  const whole = run(file);
  assert.equal(whole.status, 1);
  assert.match(whole.stdout, /# tests 3\n/);
  assert.match(whole.stdout, /broken/);
  const some = run('--only', '^tw', file);
  assert.equal(some.status, 0, some.stdout);
  assert.match(some.stdout, /# tests 1\n# pass 1\n/);
  const none = run('--only', 'nothing', file);
  assert.equal(none.status, 1);
  assert.match(none.stdout, /no test has passed/);
});

test('npm test -- --update FILE writes its snapshots anew', (t) => {
  const { file, run } = project(t);
  const snapshot = `${file}.snapshot`;
  assert.equal(run('--only', 'one', file).status, 1);
  assert.ok(!existsSync(snapshot));
  const { status, stdout } = run('--update', '--only', 'one', file);
  assert.equal(status, 0, stdout);
  assert.match(readFileSync(snapshot, 'utf8'), /now/);
  assert.equal(run('--only', 'one', file).status, 0);
});

test('npm test with anything else names what it takes', (t) => {
  const { status, stdout } = project(t).run('toString');
  assert.equal(status, 1);
  assert.match(
    stdout,
    /# FAILED toString: is neither .* nor a part of the tests: check, slow, guests/,
  );
});
