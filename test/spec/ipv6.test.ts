import assert from 'node:assert/strict';
import { isIPv6, SocketAddress } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  formatIpv6,
  isGlobal,
  isLoopbackText,
  isUniqueLocal,
  linkLocalOf,
  network6,
  overlap6,
  parseAddress6,
  parseIpv6,
} from '../../src/spec/net/ipv6.ts';

const group = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }));
const address = fc
  .array(group, { minLength: 8, maxLength: 8 })
  .map((groups) => groups.reduce((value, each) => (value << 16n) | BigInt(each), 0n));

test('an IPv6 address has the text that the system gives it, and is read back', () => {
  fc.assert(
    fc.property(address, (value) => {
      const text = formatIpv6(value);
      // inet_ntop writes some as IPv4 addresses (::ffff:0:0/96 and the like).
      const theirs = new SocketAddress({ address: text, family: 'ipv6' }).address;
      if (!theirs.includes('.')) assert.equal(text, theirs);
      assert.equal(parseIpv6(theirs), value);
      assert.equal(parseIpv6(text), value);
    }),
    { numRuns: 2000 },
  );
});

test('a text is an IPv6 address exactly when the system takes it for one', () => {
  const piece = fc.constantFrom(
    '',
    ':',
    '::',
    '0',
    '1',
    'ffff',
    'FD12',
    '10000',
    '1.2.3.4',
    '1.2.3',
    '01.2.3.4',
    '256.1.1.1',
    'g',
    '%1',
    ' ',
  );
  const digits = fc.stringMatching(/^[0-9a-f:.]{0,20}$/);
  const words = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''));
  fc.assert(
    fc.property(fc.oneof(digits, words), (text) => {
      const theirs = isIPv6(text) && !text.includes('%');
      assert.equal(parseIpv6(text) !== undefined, theirs, text);
    }),
    { numRuns: 20_000 },
  );
});

const texts = {
  '::': 0n,
  '::1': 1n,
  '1::': 1n << 112n,
  'fd12:3456:789a::1': 0xfd123456789a00000000000000000001n,
  '2001:db8:0:0:1:0:0:1': 0x20010db8000000000001000000000001n,
  '::ffff:192.0.2.1': 0xffffc0000201n,
} as const;
test('texts of IPv6 addresses', () => {
  for (const [text, value] of Object.entries(texts)) assert.equal(parseIpv6(text), value, text);
  assert.equal(formatIpv6(texts['2001:db8:0:0:1:0:0:1']), '2001:db8::1:0:0:1');
});

test('prefixes', () => {
  const one = parseAddress6('fd12:3456:789a::1/64');
  assert.ok(one !== undefined);
  assert.equal(formatIpv6(network6(one)), 'fd12:3456:789a::');
  for (const text of ['fd12::1', 'fd12::1/', 'fd12::1/129', 'fd12::1/064', '/64', '10.0.0.1/24']) {
    assert.equal(parseAddress6(text), undefined, text);
  }
  const meets = (text: string): boolean => overlap6(one, parseAddress6(text) ?? one);
  assert.ok(meets('fd12:3456:789a::9/64') && meets('fd12:3456:789a::/48') && meets('::/0'));
  assert.ok(meets('fd12:3456:789a:0:1::/80'));
  assert.ok(!meets('fd12:3456:789a:1::/64') && !meets('fd12:3456:789b::/48'));
});

test('kinds of addresses', () => {
  const of = (text: string): bigint => parseIpv6(text) ?? 0n;
  assert.ok(isUniqueLocal(of('fd00::1')) && isUniqueLocal(of('fc00::1')));
  assert.ok(!isUniqueLocal(of('fe80::1')) && !isUniqueLocal(of('2001:db8::1')));
  assert.ok(isGlobal(of('2001:db8::1')) && isGlobal(of('3fff::1')));
  assert.ok(!isGlobal(of('fd00::1')) && !isGlobal(of('::1')) && !isGlobal(of('ff02::1')));
  assert.equal(formatIpv6(linkLocalOf('52:54:00:12:34:56')), 'fe80::5054:ff:fe12:3456');
});

test('texts of addresses that lead to the machine itself', () => {
  const texts = [
    '127.0.0.1',
    '127.255.0.9',
    '::1',
    '0:0::1',
    '128.0.0.1',
    '::',
    '::2',
    '127.1',
    '',
  ];
  assert.deepEqual(texts.filter(isLoopbackText), ['127.0.0.1', '127.255.0.9', '::1', '0:0::1']);
});
