import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { type TestContext, test } from 'node:test';
import { bootId, identify } from '#host';
import { Helpers } from '../../src/vm/live/helpers.ts';
import { collect, eventually } from '../support/vm.ts';

function helper(t: TestContext): { readonly child: ChildProcess; readonly helpers: Helpers } {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  t.after(() => child.kill('SIGKILL'));
  const { pid, startTicks } = identify(child.pid ?? 0) ?? assert.fail('no process');
  return { child, helpers: new Helpers({ helpers: [{ pid, startTicks }] }, bootId(), collect([])) };
}

test('a process that serves a directory and ends is reported, while QEMU runs', async (t) => {
  const { child, helpers } = helper(t);
  const events: string[] = [];
  const emit = (message: string) => void events.push(message);
  const never = new AbortController();
  const watching = helpers.watch(new Promise(() => {}), emit, never);
  assert.equal(helpers.lost, false);
  child.kill('SIGKILL');
  await eventually(() => helpers.lost, 'lost');
  await watching;
  assert.deepEqual(events, [
    'virtiofsd has ended: processes of the guest wait for its shared directories; restart the task',
  ]);
});

test('one that ends with its QEMU is not, nor one of a VM that this process has left', async (t) => {
  const emit = () => assert.fail('reported');
  const first = helper(t);
  first.child.kill('SIGKILL');
  await first.helpers.watch(Promise.resolve(), emit, new AbortController());
  const second = helper(t);
  const released = new AbortController();
  const watching = second.helpers.watch(new Promise(() => {}), emit, released);
  second.child.kill('SIGKILL');
  released.abort();
  await watching;
  const none = new Helpers({}, bootId(), collect([]));
  await none.watch(new Promise(() => {}), emit, new AbortController());
  assert.equal(none.lost, false);
});
