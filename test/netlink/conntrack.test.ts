import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeFlow } from '../../src/netlink/conntrack.ts';

// A UDP connection as a 6.18 kernel tells it: 127.0.0.1:54599 → 127.0.0.1:8080, unanswered.
const body = Buffer.from(
  '02000000' +
    '34000180' +
    '14000180' +
    '080001007f000001' +
    '080002007f000001' +
    '1c000280' +
    '0500010011000000' +
    '06000200d5470000' +
    '060003001f900000' +
    '34000280' +
    '14000180' +
    '080001007f000001' +
    '080002007f000001' +
    '1c000280' +
    '0500010011000000' +
    '060002001f900000' +
    '06000300d5470000' +
    '0800030000000188' +
    '0800080000000000' +
    '08000c00a5f1f9cb' +
    '08000b0000000001' +
    '080007000000001d',
  'hex',
);

test('a tracked connection is read from its bytes', () => {
  const [flow, ...more] = decodeFlow(body);
  assert.deepEqual(more, []);
  const { key, ...rest } = flow ?? { key: [] };
  assert.deepEqual(rest, {
    protocol: 17,
    original: {
      source: '127.0.0.1',
      destination: '127.0.0.1',
      sourcePort: 54599,
      destinationPort: 8080,
    },
    reply: {
      source: '127.0.0.1',
      destination: '127.0.0.1',
      sourcePort: 8080,
      destinationPort: 54599,
    },
  });
  assert.deepEqual(
    key.map(([type]) => type),
    [1, 12],
  );
});

test('one cut at any byte, or of IPv6, is none or a part, and never throws', () => {
  for (let length = 0; length < 108; length++) {
    assert.deepEqual(decodeFlow(body.subarray(0, length)), []);
  }
  for (let length = 108; length < body.length; length++) decodeFlow(body.subarray(0, length));
  assert.deepEqual(decodeFlow(Buffer.concat([Buffer.of(10), body.subarray(1)])), []);
});
