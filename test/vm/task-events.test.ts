import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { QmpEvent } from '#qmp';
import { EventFeed, taskEventOf } from '../../src/vm/live/task-events.ts';

test('the same message is reported once in 10 s, whatever happens to the clock of the host', (t) => {
  const feed = new EventFeed();
  const messages: string[] = [];
  feed.listen((_name, { message }) => messages.push(message));
  const emit = feed.of('vm-0');
  const clock = { hourMs: Date.now(), elapsedMs: 1000 };
  t.mock.method(Date, 'now', () => clock.hourMs);
  t.mock.method(performance, 'now', () => clock.elapsedMs);
  emit('Guest rebooted');
  emit('Guest rebooted');
  assert.equal(messages.length, 1);
  clock.hourMs += 3_600_000;
  emit('Guest rebooted');
  assert.equal(messages.length, 1, 'set forward');
  clock.hourMs -= 2 * 3_600_000;
  clock.elapsedMs += 10_001;
  emit('Guest rebooted');
  assert.equal(messages.length, 2, 'set back by an hour, 10 s later');
});

test('a listener that has left is not called', () => {
  const feed = new EventFeed();
  const names: string[] = [];
  const leave = feed.listen((name) => names.push(name));
  feed.of('vm-0')('one');
  leave();
  feed.of('vm-1')('two');
  assert.deepEqual(names, ['vm-0']);
});

/** Each QEMU event with what an operator reads of it; undefined: nothing. */
const events: Readonly<
  Record<string, readonly [event: string, data: QmpEvent['data'], message: string | undefined]>
> = {
  'a reset by the guest': ['RESET', { guest: true, reason: 'guest-reset' }, 'Guest rebooted'],
  'a reset by the host': ['RESET', { guest: false, reason: 'host-qmp-system-reset' }, undefined],
  'a pause': ['STOP', {}, 'Guest paused'],
  'a resume': ['RESUME', {}, 'Guest resumed'],
  'a panic': ['GUEST_PANICKED', { action: 'pause' }, 'Guest panicked'],
  'a watchdog': ['WATCHDOG', { action: 'reset' }, 'Watchdog fired'],
  'a disk error': ['BLOCK_IO_ERROR', { device: 'disk', operation: 'write' }, 'Disk error'],
  'a power-off by the guest': ['SHUTDOWN', { guest: true }, 'Guest powered off'],
  'a power-off by the driver': ['SHUTDOWN', { guest: false }, undefined],
  'an event that means nothing to an operator': ['RTC_CHANGE', { offset: 1 }, undefined],
};
for (const [name, [event, data, message]] of Object.entries(events)) {
  test(`the task event of ${name}`, () => {
    assert.equal(taskEventOf({ event, data, atMs: 0 } as QmpEvent)?.message, message);
  });
}

test('annotations are short texts, whatever a QEMU that was taken over sends', () => {
  const data = { action: { toString: 1 } };
  assert.deepEqual(taskEventOf({ event: 'WATCHDOG', data, atMs: 0 } as QmpEvent)?.annotations, {
    action: '',
  });
  const long = { guest: true, reason: 'x'.repeat(1000) };
  const event = taskEventOf({ event: 'RESET', data: long, atMs: 0 } as QmpEvent);
  assert.equal(event?.annotations.reason?.length, 100);
});
