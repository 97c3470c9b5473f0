import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Attribute,
  decodeAttributes,
  encodeAttributes,
  readText,
  readU32,
} from '../../src/netlink/attributes.ts';
import {
  decodeInfo,
  encodeBridgeChange,
  encodeBridgePort,
  encodeKind,
} from '../../src/netlink/linkinfo.ts';
import { decodeMessages, encodeMessage } from '../../src/netlink/message.ts';

const message = (sequence: number, body: Uint8Array) => ({ type: 16, flags: 5, sequence, body });

test('an attribute is laid out as in linux/netlink.h', () => {
  const bytes = encodeAttributes([
    [3, 'br0'],
    [4, 1500],
    [1, Buffer.of(1, 2, 3, 4, 5, 6)],
  ]);
  assert.equal(
    bytes.toString('hex'),
    '0800030062723000' + '08000400dc050000' + '0a00010001020304' + '05060000',
  );
});

test('attributes: what is encoded is what is decoded', () => {
  const payload = fc.uint8Array({ maxLength: 40 });
  const attributes = fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 0x3fff }), payload), {
    selector: ([type]) => type,
    maxLength: 10,
  });
  fc.assert(
    fc.property(attributes, (list) => {
      const decoded = decodeAttributes(encodeAttributes(list));
      assert.equal(decoded.size, list.length);
      for (const [type, bytes] of list) assert.ok(decoded.get(type)?.equals(bytes));
    }),
  );
});

test('attributes: nested ones keep their texts and numbers', () => {
  const nested: Attribute = [
    18,
    [
      [1, 'bridge'],
      [2, [[1, 42]]],
    ],
  ];
  const outer = decodeAttributes(encodeAttributes([nested])).get(18);
  const inner = decodeAttributes(outer ?? Buffer.alloc(0));
  assert.equal(readText(inner.get(1)), 'bridge');
  assert.equal(readU32(decodeAttributes(inner.get(2) ?? Buffer.alloc(0)).get(1)), 42);
});

test('messages: several in a datagram come out one by one', () => {
  const datagram = Buffer.concat([
    encodeMessage(message(1, Buffer.alloc(4, 1))),
    encodeMessage(message(2, Buffer.alloc(8, 2))),
  ]);
  assert.deepEqual(
    decodeMessages(datagram).map(({ sequence, body }) => [sequence, body.length]),
    [
      [1, 4],
      [2, 8],
    ],
  );
});

test('messages and attributes cut at any byte, or random, never throw and never loop', () => {
  const kind = encodeKind({ kind: 'bridge', stp: true, forwardDelayMs: 40 });
  const whole = encodeMessage(message(1, encodeAttributes(kind)));
  for (let length = 0; length < whole.length; length++) {
    assert.deepEqual(decodeMessages(whole.subarray(0, length)), []);
    decodeAttributes(whole.subarray(16, length));
    decodeInfo(whole.subarray(20, Math.max(20, length)));
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      decodeMessages(bytes);
      decodeAttributes(bytes);
      decodeInfo(Buffer.from(bytes));
    }),
  );
});

const kinds = {
  'bridge without STP': encodeKind({ kind: 'bridge', stp: false, forwardDelayMs: 0 }),
  'bridge with STP and 15 s': encodeKind({ kind: 'bridge', stp: true, forwardDelayMs: 15_000 }),
  'macvtap in bridge mode': encodeKind({ kind: 'macvtap', lowerIndex: 7, mode: 'bridge' }),
  'bridge that learns nothing from link-local frames': [
    encodeBridgeChange({ linkLocalLearn: false }),
  ],
  'bridge port in hairpin mode': [encodeBridgePort({ hairpin: true })],
  'bridge port without hairpin mode': [encodeBridgePort({ hairpin: false })],
};
for (const [name, attributes] of Object.entries(kinds)) {
  test(`link kind bytes: ${name}`, (t) => {
    t.assert.snapshot(encodeAttributes(attributes).toString('hex').replace(/.{8}/g, '$& ').trim());
  });
}

test('the kind of a link, and what a bridge and its port are set to, come back from their bytes', () => {
  const whole = (...attributes: Parameters<typeof encodeAttributes>[0]) =>
    decodeInfo(decodeAttributes(encodeAttributes(attributes)).get(18));
  assert.deepEqual(whole(...encodeKind({ kind: 'bridge', stp: true, forwardDelayMs: 15_000 })), {
    kind: 'bridge',
  });
  assert.deepEqual(decodeInfo(encodeAttributes([[1, Buffer.from('tun\0')]])), { kind: 'tun' });
  assert.deepEqual(decodeInfo(undefined), { kind: undefined });
  for (const on of [true, false]) {
    const bridge = encodeBridgeChange({ linkLocalLearn: on });
    assert.deepEqual(whole(bridge), { kind: 'bridge', linkLocalLearn: on });
    assert.deepEqual(whole(encodeBridgePort({ hairpin: on })), { kind: undefined, hairpin: on });
  }
});
