import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { kill, spawnDetached } from '#host';
import { Containment } from '../../src/vm/live/containment.ts';
import { collect } from '../support/vm.ts';

const GiB = 1024 ** 3;

test('the longest file is the disk, and is never below a log that was long when the plugin came', async (t) => {
  const child = await spawnDetached({ program: '/bin/sleep', args: ['60'], stdio: [] });
  t.after(() => kill(child.identity, { signal: AbortSignal.timeout(10_000) }));
  const limit = (): string =>
    /^Max file size +(\S+)/m.exec(
      readFileSync(`/proc/${child.identity.pid}/limits`, 'utf8'),
    )?.[1] ?? '';
  const lines: string[] = [];
  const containment = new Containment(2 * GiB, collect(lines));
  containment.grown(9 * GiB);
  assert.equal(limit(), 'unlimited', 'before it knows the process');
  containment.adopt(child.identity, 5 * GiB);
  assert.equal(limit(), String(10 * GiB), 'what was heard before counts as well');
  containment.grown(6 * GiB);
  assert.equal(limit(), String(10 * GiB), 'never lowered');
  assert.deepEqual(lines, []);
  // Raised by those who may; else it is reported and nothing else happens.
  containment.grown(10 * GiB);
  const raised = limit() === String(11 * GiB);
  assert.equal(lines.length, raised ? 0 : 1);
});
