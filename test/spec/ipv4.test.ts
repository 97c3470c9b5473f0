import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIpv4, parseIpv4, subnetOf } from '#spec';

test('IPv4 text and numbers are each other’s inverse', () => {
  fc.assert(
    fc.property(fc.nat({ max: 0xffffffff }), (value) => {
      assert.equal(parseIpv4(formatIpv4(value)), value);
    }),
  );
  for (const text of ['', '1.2.3', '1.2.3.4.5', '256.1.1.1', '1.2.3.-4', '0x1.2.3.4', ' 1.2.3.4']) {
    assert.equal(parseIpv4(text), undefined, text);
  }
  assert.equal(subnetOf(0xffffffff, 8).broadcast, 0xffffffff);
});
