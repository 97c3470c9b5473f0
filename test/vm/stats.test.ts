import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  measure,
  parseGuestStatistics,
  parseStat,
  parseStatus,
  processFigures,
} from '../../src/vm/live/stats.ts';

const MiB = 2 ** 20;

test('V-101: CPU time is read from behind the name, whatever that is', () => {
  for (const name of ['qemu', 'a) S 1 2 3', '((', 'x '.repeat(7)]) {
    const stat = `77 (${name}) S 1 77 77 0 -1 4194560 9 0 0 0 250 130 0 0 20 0 4 0 999 1 2 3\n`;
    assert.deepEqual(parseStat(stat), { userNs: 2.5e9, systemNs: 1.3e9 });
  }
});

test('V-101: memory lines are KiB, and one that is missing is unknown, not zero', () => {
  const status = 'Name:\tqemu\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nVmSwap:\t       0 kB\n';
  assert.deepEqual(parseStatus(status), {
    rssBytes: MiB,
    maxRssBytes: 2 * MiB,
    swapBytes: 0,
  });
  assert.deepEqual(parseStatus('Name:\tkthread\n'), {
    rssBytes: 0,
    maxRssBytes: undefined,
    swapBytes: undefined,
  });
});

test('V-101: figures of several processes are added up, and one that is gone counts nothing', async () => {
  const own = await processFigures(process.pid);
  assert.ok(own && own.rssBytes > MiB && own.userNs > 0);
  assert.equal(await processFigures(2 ** 22 + 1), undefined);
  const both = await measure([process.pid, process.pid, 2 ** 22 + 1], undefined);
  assert.ok(both.rssBytes > 1.5 * own.rssBytes, `${both.rssBytes} of two, ${own.rssBytes} of one`);
  assert.equal(both.guestUsedBytes, undefined);
});

const told = (stats: object, update = 1) => ({ stats, 'last-update': update });

test('V-101: what the guest says of its memory stays within what it was given', () => {
  const full = { 'stat-total-memory': 90 * MiB, 'stat-available-memory': 30 * MiB };
  assert.deepEqual(parseGuestStatistics(told(full), 128 * MiB), {
    totalBytes: 90 * MiB,
    usedBytes: 60 * MiB,
  });
  const old = { 'stat-total-memory': 90 * MiB, 'stat-free-memory': 10 * MiB };
  assert.equal(parseGuestStatistics(told(old), 128 * MiB)?.usedBytes, 80 * MiB);
  const numbers = fc.oneof(fc.double(), fc.integer(), fc.maxSafeInteger());
  fc.assert(
    fc.property(numbers, numbers, (total, available) => {
      const stats = { 'stat-total-memory': total, 'stat-available-memory': available };
      const found = parseGuestStatistics(told(stats), 128 * MiB);
      if (found === undefined) return;
      assert.ok(found.totalBytes > 0 && found.totalBytes <= 128 * MiB, `${found.totalBytes}`);
      assert.ok(found.usedBytes >= 0 && found.usedBytes <= found.totalBytes, `${found.usedBytes}`);
    }),
  );
});

test('V-101: a guest that has said nothing, or nonsense, has no figures', () => {
  const full = { 'stat-total-memory': 90 * MiB, 'stat-available-memory': 30 * MiB };
  for (const answer of [null, 7, 'x', {}, told(full, 0), { stats: null, 'last-update': 1 }]) {
    assert.equal(parseGuestStatistics(answer, 128 * MiB), undefined);
  }
  assert.equal(parseGuestStatistics(told({ 'stat-total-memory': 5 }), MiB), undefined);
});
