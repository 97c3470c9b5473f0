import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { bootId } from '#host';
import type { Prepared } from '../../src/vm/devices/device.ts';
import { watchServers } from '../../src/vm/start/silent-server.ts';

const device: Prepared = {
  part: { id: 'disk-1', files: [], options: () => [] },
  record: { kind: 'emulated', id: 'disk-1', model: 'disk' },
};
const waitingFor = (key: string): Prepared => ({ ...device, awaited: { key, silenceMs: 600 } });

async function pidOf(t: TestContext, script: string): Promise<number> {
  const child = spawn('sh', ['-c', `echo; ${script}`], { stdio: ['ignore', 'pipe', 'ignore'] });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  assert.ok(child.pid !== undefined);
  return child.pid;
}

test('a process that sleeps waits for the servers of its disks; one that works, or has none, does not', async (t) => {
  const [asleep, busy] = [await pidOf(t, 'exec sleep 60'), await pidOf(t, 'while :; do :; done')];
  const heard: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const watch = (name: string, pid: number, devices: readonly Prepared[]): Disposable =>
    watchServers({ pid, startTicks: '0', bootId: bootId() }, devices, ({ message }) => {
      heard.push(`${name}: ${message}`);
      if (name === 'asleep') resolve();
    });
  using _busy = watch('busy', busy, [waitingFor('a')]);
  using _none = watch('without', asleep, [device]);
  using _ = watch('asleep', asleep, [waitingFor('a'), device, waitingFor('b')]);
  await promise;
  assert.deepEqual(heard, ['asleep: a, b: QEMU has waited 0.6 s for an answer of its server']);
});
