import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { identify, userNamespaceTools } from '#host';
import { requireOrSkip } from '../support/require.ts';
import { eventually } from '../support/vm.ts';

const canUse = process.getuid?.() === 0 && userNamespaceTools() !== undefined;

/** Ends itself by SIGKILL as soon as what holds its namespace runs, and prints the pid of that. */
const killed = `
  import { readFileSync, writeSync } from 'node:fs';
  import { createUserNamespace } from '#host';
  void createUserNamespace({ firstId: 200_000, count: 1 }, { signal: new AbortController().signal });
  writeSync(1, readFileSync('/proc/thread-self/children', 'utf8'));
  process.kill(process.pid, 'SIGKILL');
`;

test('V-98: what holds a user namespace ends with the process that was killed while it made one', async (t) => {
  if (!requireOrSkip(t, canUse, 'needs root, and util-linux')) return;
  const cwd = join(import.meta.dirname, '../..');
  const args = ['--input-type=module', '--eval', killed];
  const { stdout, signal } = spawnSync(process.execPath, args, { cwd, encoding: 'utf8' });
  assert.equal(signal, 'SIGKILL');
  assert.match(stdout, /^\d+ $/);
  await eventually(() => identify(Number(stdout)) === undefined, 'its end');
});
