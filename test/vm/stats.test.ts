import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseLinks } from '../../src/vm/figures/links.ts';
import {
  guestMemory,
  parseGuestStatistics,
  parseStat,
  parseStatus,
} from '../../src/vm/figures/stats.ts';

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

const memoryOf = (answer: unknown, limit: number) =>
  guestMemory(parseGuestStatistics(answer), limit);

const told = (stats: object, update = 1) => ({ stats, 'last-update': update });

test('V-101: what the guest reports of its memory stays within what it was given', () => {
  const full = { 'stat-total-memory': 90 * MiB, 'stat-available-memory': 30 * MiB };
  assert.deepEqual(memoryOf(told(full), 128 * MiB), {
    totalBytes: 90 * MiB,
    usedBytes: 60 * MiB,
  });
  const old = { 'stat-total-memory': 90 * MiB, 'stat-free-memory': 10 * MiB };
  assert.equal(memoryOf(told(old), 128 * MiB)?.usedBytes, 80 * MiB);
  const numbers = fc.oneof(fc.double(), fc.integer(), fc.maxSafeInteger());
  fc.assert(
    fc.property(numbers, numbers, (total, available) => {
      const stats = { 'stat-total-memory': total, 'stat-available-memory': available };
      const found = memoryOf(told(stats), 128 * MiB);
      if (found === undefined) return;
      assert.ok(found.totalBytes > 0 && found.totalBytes <= 128 * MiB, `${found.totalBytes}`);
      assert.ok(found.usedBytes >= 0 && found.usedBytes <= found.totalBytes, `${found.usedBytes}`);
    }),
  );
});

test('V-101: a guest that has reported nothing, or nonsense, has no figures', () => {
  const full = { 'stat-total-memory': 90 * MiB, 'stat-available-memory': 30 * MiB };
  for (const answer of [null, 7, 'x', {}, told(full, 0), { stats: null, 'last-update': 1 }]) {
    assert.equal(memoryOf(answer, 128 * MiB), undefined);
  }
  assert.equal(memoryOf(told({ 'stat-total-memory': 5 }), MiB), undefined);
});

test('V-103: every figure that the guest reports is kept, and what it does not is left out', () => {
  const none = 2n ** 64n - 1n;
  const stats = {
    'stat-total-memory': 90 * MiB,
    'stat-free-memory': 10 * MiB,
    'stat-disk-caches': 20 * MiB,
    'stat-swap-in': 1,
    'stat-swap-out': 2,
    'stat-major-faults': 3,
    'stat-minor-faults': 2n ** 60n,
    'stat-available-memory': none,
    'stat-htlb-pgalloc': 4,
  };
  assert.deepEqual(parseGuestStatistics(told(stats)), {
    totalBytes: 90 * MiB,
    freeBytes: 10 * MiB,
    cacheBytes: 20 * MiB,
    swapInBytes: 1,
    swapOutBytes: 2,
    majorFaults: 3,
    minorFaults: 2 ** 60,
  });
});

test('V-103: the counters of the host’s links, whatever their names are', () => {
  const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
a:b: 18446744073709551615 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0
`;
  const links = parseLinks(text);
  assert.deepEqual([...links.keys()], ['lo', 'a:b']);
  assert.deepEqual(links.get('a:b'), {
    received: { bytes: 2 ** 64, packets: 2, errors: 3, drops: 4 },
    sent: { bytes: 5, packets: 6, errors: 7, drops: 8 },
  });
  assert.deepEqual(parseLinks(''), new Map());
});
