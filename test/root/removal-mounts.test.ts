import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { mountTmpfs, unmount } from '#host';
import { undoStep } from '../../src/vm/store/undo.ts';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const networks = { vmTerminatedTeardown: (): Promise<void> => assert.fail('no network here') };
const undoMount = (target: string): Promise<void> =>
  undoStep(
    { kind: 'mount', target },
    { networks, pools: { pools: [], default: undefined } },
    { signal: AbortSignal.timeout(patient(10_000)) },
  );
const mountsBelow = (path: string): number =>
  readFileSync('/proc/self/mountinfo', 'utf8').split(` ${path}`).length - 1;
const memory = (target: string): void => mountTmpfs(target, { sizeBytes: 1 << 16, mode: 0o700 });

/** A task's directory with a file, and the place where it is shown, writable: the worst case of a share. */
function ground(t: TestContext) {
  if (!requireOrSkip(t, process.getuid?.() === 0, 'needs root to mount')) return undefined;
  const root = tmpDir(t);
  const [source, target] = [join(root, 'source'), join(root, 'target')];
  for (const path of [source, target]) mkdirSync(path);
  const file = join(source, 'of-the-task');
  writeFileSync(file, 'precious');
  const show = (at = target): unknown => execFileSync('mount', ['--bind', source, at]);
  return { root, source, target, file, show };
}

test('V-7: a mount that has another one on top of it is taken away whole, and nothing in it is removed', async (t) => {
  const it = ground(t);
  if (it === undefined) return;
  it.show();
  memory(it.target);
  it.show();
  await undoMount(it.target);
  assert.equal(readFileSync(it.file, 'utf8'), 'precious');
  assert.deepEqual([mountsBelow(it.target), existsSync(it.target)], [0, false]);
  await undoMount(it.target);
});

test('V-7: a mount that a process works in goes all the same', async (t) => {
  const it = ground(t);
  if (it === undefined) return;
  memory(it.target);
  const busy = spawn('/bin/sleep', ['60'], { cwd: it.target, stdio: 'ignore' });
  t.after(() => busy.kill('SIGKILL'));
  await new Promise((resolve) => busy.once('spawn', resolve));
  assert.throws(() => execFileSync('umount', [it.target], { stdio: 'ignore' }), 'it is busy');
  await undoMount(it.target);
  assert.deepEqual([mountsBelow(it.target), existsSync(it.target)], [0, false]);
});

test('V-7: what is mounted below a directory that is to go is not entered', async (t) => {
  const it = ground(t);
  if (it === undefined) return;
  const below = join(it.target, 'shares', 'localDir');
  mkdirSync(below, { recursive: true });
  it.show(below);
  try {
    await assert.rejects(undoMount(it.target), /ENOTEMPTY/);
    assert.equal(readFileSync(it.file, 'utf8'), 'precious');
    assert.equal(mountsBelow(below), 1);
  } finally {
    unmount(below);
  }
});

test('V-7: files that came into the directory while nothing was mounted on it do not keep it', async (t) => {
  const it = ground(t);
  if (it === undefined) return;
  writeFileSync(join(it.target, 'owner'), '');
  await undoMount(it.target);
  assert.ok(!existsSync(it.target));
});
