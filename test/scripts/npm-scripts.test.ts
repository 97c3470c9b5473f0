import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';

const root = resolve(import.meta.dirname, '../..');
/** What any Node may be asked to run. */
const sources = ['scripts/run.mjs', 'scripts/setup/dependencies.mjs', 'scripts/setup/packages.mjs'];

/** The scripts in a project where nothing is installed. */
function bareProject(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'nq-bare-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const file of [...sources, 'package.json', 'package-lock.json']) {
    cpSync(join(root, file), join(dir, file));
  }
  return dir;
}

function run(dir: string, ...options: readonly string[]) {
  const args = [...options, join(dir, 'scripts/run.mjs'), 'tsc'];
  return spawnSync(process.execPath, args, { env: { PATH: '/nowhere' }, encoding: 'utf8' });
}

test('a Node that is too old is reported in one sentence, and nothing else is tried', (t) => {
  const pretend = `Object.defineProperty(process, 'versions', { value: { node: '18.20.4' } })`;
  const preload = `data:text/javascript,${encodeURIComponent(pretend)}`;
  const { status, stderr } = run(bareProject(t), '--import', preload);
  assert.equal(status, 1);
  assert.match(stderr, /^this needs Node 20 or newer[^\n]*\n$/);
});

test('without npm on PATH the error names npm', (t) => {
  const { status, stderr } = run(bareProject(t));
  assert.equal(status, 1);
  assert.match(stderr, /^npm ci cannot be started: ENOENT \(is npm on PATH\?\)$/m);
});

test('what came only with Node 20.11 is not used to find the project', () => {
  for (const file of sources) {
    const code = readFileSync(join(root, file), 'utf8').replaceAll(/\/\/.*/g, '');
    assert.doesNotMatch(code, /import\.meta\.(dir|file)name/, file);
  }
});
