import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { endOf, parseJournal } from '../../src/qmp/journal.ts';
import { greeting } from '../support/qmp-server.ts';

const line = (event: string, data: object = {}): string =>
  `${JSON.stringify({ timestamp: { seconds: 5, microseconds: 0 }, event, data })}\r\n`;
const shutdown = (reason: string, guest = false): string => line('SHUTDOWN', { guest, reason });
const opening = `${greeting}{"return": {}}\r\n`;
const names = (text: string | Uint8Array): string[] => parseJournal(text).map(({ event }) => event);

test('journal: events are kept, the greeting and the reply are not', () => {
  const text = opening + line('STOP') + line('RESUME') + shutdown('guest-shutdown', true);
  assert.deepEqual(names(text), ['STOP', 'RESUME', 'SHUTDOWN']);
  assert.deepEqual(names(new TextEncoder().encode(text)), ['STOP', 'RESUME', 'SHUTDOWN']);
  assert.equal(parseJournal(text)[0]?.atMs, 5000);
});

test('journal: empty, and greeting only', () => {
  assert.deepEqual(parseJournal(''), []);
  assert.deepEqual(parseJournal(opening), []);
});

test('journal: a last line torn at any byte costs nothing but itself', () => {
  const last = shutdown('host-signal');
  for (let cut = 0; cut < last.length; cut += 1) {
    const found = names(opening + line('STOP') + last.slice(0, cut));
    const whole = cut >= last.trimEnd().length;
    assert.deepEqual(found, whole ? ['STOP', 'SHUTDOWN'] : ['STOP'], `cut at ${cut}`);
  }
});

test('journal: the front punched away at any byte leaves the lines behind it', () => {
  const front = new TextEncoder().encode(opening + line('RESET', { guest: true }));
  const rest = new TextEncoder().encode(line('STOP') + shutdown('guest-panic', true));
  for (let hole = 0; hole <= front.length; hole += 1) {
    const file = new Uint8Array(4096 + front.length + rest.length);
    file.set(front.subarray(hole), 4096 + hole);
    file.set(rest, 4096 + front.length);
    const found = names(file);
    assert.deepEqual(found.slice(-2), ['STOP', 'SHUTDOWN']);
    assert.ok(found.length <= 3);
  }
});

test('journal: garbage lines are passed over, and the two lines around them are not', () => {
  const garbage = [
    'qemu: terminating',
    '{"event": 5}',
    '[]',
    '\u0001\u0002',
    '{"a":',
    '['.repeat(9999),
  ];
  assert.deepEqual(
    names(garbage.flatMap((text) => [line('STOP'), `${text}\n`]).join('') + line('RESUME')),
    [...garbage.map(() => 'STOP'), 'RESUME'],
  );
  const invalid = Buffer.concat([Buffer.of(0xff, 0xfe, 0x0a), Buffer.from(line('STOP'))]);
  assert.deepEqual(names(invalid), ['STOP']);
});

test('journal: property: nothing makes the reader throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      assert.ok(Array.isArray(parseJournal(bytes)));
    }),
  );
});

const panic = (action: string): string => line('GUEST_PANICKED', { action });
const ends: Readonly<Record<string, readonly [string, ReturnType<typeof endOf>]>> = {
  'nothing: killed': ['', undefined],
  'reset alone: killed': [line('RESET', { guest: true, reason: 'guest-reset' }), undefined],
  'stopped: killed': [line('STOP'), undefined],
  'guest powers off': [
    line('POWERDOWN') + shutdown('guest-shutdown', true),
    { reason: 'guest-shutdown', guest: true, panicked: false },
  ],
  'guest reboots where that is an end': [
    shutdown('guest-reset', true),
    { reason: 'guest-reset', guest: true, panicked: false },
  ],
  quit: [shutdown('host-qmp-quit'), { reason: 'host-qmp-quit', guest: false, panicked: false }],
  'the first SHUTDOWN wins': [
    shutdown('guest-shutdown', true) + line('STOP') + shutdown('host-signal'),
    { reason: 'guest-shutdown', guest: true, panicked: false },
  ],
  'panic, then SHUTDOWN': [
    panic('poweroff') + shutdown('guest-panic', true),
    { reason: 'guest-panic', guest: true, panicked: true },
  ],
  'panic with pause, then quit': [
    panic('pause') + line('STOP') + shutdown('host-qmp-quit'),
    { reason: 'host-qmp-quit', guest: false, panicked: true },
  ],
  'panic, then killed before SHUTDOWN': [
    panic('poweroff'),
    { reason: 'guest-panic', guest: true, panicked: true },
  ],
  'panic and crash dump, then killed': [panic('run'), undefined],
  'panic, crash dump, reboot, a good end': [
    panic('run') + line('RESET', { guest: true }) + shutdown('guest-shutdown', true),
    { reason: 'guest-shutdown', guest: true, panicked: false },
  ],
  'panic after the end is not part of it': [
    shutdown('guest-shutdown', true) + panic('poweroff'),
    { reason: 'guest-shutdown', guest: true, panicked: false },
  ],
  'a watchdog that powers off: QEMU exits without a SHUTDOWN': [
    line('WATCHDOG', { action: 'poweroff' }),
    { reason: 'watchdog', guest: true, panicked: false },
  ],
  'a watchdog that resets, then killed': [
    line('WATCHDOG', { action: 'reset' }) + line('RESET', { guest: true }),
    undefined,
  ],
  'a SHUTDOWN without a reason': [
    line('SHUTDOWN'),
    { reason: 'unknown', guest: false, panicked: false },
  ],
};
for (const [name, [text, end]] of Object.entries(ends)) {
  test(`journal: end: ${name}`, () => {
    assert.deepEqual(endOf(parseJournal(opening + text)), end);
  });
}
