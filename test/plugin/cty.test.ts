import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import fc from 'fast-check';
import { CtyError, type CtyValue, decodeCty, toNumber } from '../../src/plugin/hcl/cty.ts';

const bytes = (hex: string): Uint8Array => Buffer.from(hex.replaceAll(' ', ''), 'hex');
const text = (value: string): string => Buffer.from(value).toString('hex');

const numbers: Readonly<Record<string, [hex: string, value: number]>> = {
  'a small integer': ['05', 5],
  'a small negative one': ['fb', -5],
  'one byte': ['ccc8', 200],
  'two bytes': ['cdffff', 65_535],
  'four bytes': ['ce00011170', 70_000],
  'eight bytes': ['cf0000010000000000', 2 ** 40],
  'a signed byte': ['d080', -128],
  'two signed bytes': ['d1ff38', -200],
  'four signed bytes': ['d2ffff0000', -65_536],
  'eight signed bytes': ['d38000000000000000', -(2 ** 63)],
  'a float': ['cb3ff8000000000000', 1.5],
  'a float that is whole': ['cb43e0000000000000', 2 ** 63],
  'a short float': ['ca3fc00000', 1.5],
  'decimal text': [`a3${text('0.1')}`, 0.1],
  'long decimal text': [`bf${text('1000000000000000000000000000000')}`, 1e30],
  'negative decimal text': [`a5${text('-0.25')}`, -0.25],
};
for (const [name, [hex, value]] of Object.entries(numbers)) {
  test(`P-17: a number as ${name}`, () => assert.equal(toNumber(decodeCty(bytes(hex))), value));
}

test('P-17: what is no number is none', () => {
  for (const value of ['', '1x', '0x10', 'Infinity', 'NaN', '-', '.', '1e999', ' 1']) {
    assert.equal(toNumber(value), undefined, value);
  }
  for (const value of [null, true, [], {}, Number.NaN]) assert.equal(toNumber(value), undefined);
});

const values: Readonly<Record<string, [hex: string, value: CtyValue]>> = {
  'no bytes at all': ['', null],
  nil: ['c0', null],
  bools: ['92c2c3', [false, true]],
  'a map': ['81a161a26869', { a: 'hi' }],
  'an empty map': ['80', {}],
  'an empty list': ['90', []],
  'text of one length byte': [`d920${text('x'.repeat(32))}`, 'x'.repeat(32)],
  'go-msgpack text of two length bytes': [`da0002${text('hi')}`, 'hi'],
  'go-msgpack text of four length bytes': [`db00000002${text('hi')}`, 'hi'],
  'go-msgpack bytes': [`c402${text('hi')}`, 'hi'],
  'a long list': ['dc000101', [1]],
  'a long map': ['de0001a16101', { a: 1 }],
  'unsorted keys': ['82a16201a16102', { b: 1, a: 2 }],
  'labelled blocks': [
    '82 a464617461 81a473697a6502 a4726f6f74 81a473697a6501',
    { data: { size: 2 }, root: { size: 1 } },
  ],
};
for (const [name, [hex, value]] of Object.entries(values)) {
  test(`P-17: ${name}`, () => assert.deepEqual(decodeCty(bytes(hex)), value));
}

const malformed: Readonly<Record<string, string>> = {
  'cut text': 'a56869',
  'cut map': '82a161',
  'cut number': 'cf0000',
  'bytes after the value': '0101',
  'a byte that means nothing': 'c1',
  'an unknown value': 'd40000',
  'a refined unknown value': 'c7010c80',
  'another extension': 'd40500',
  'a time': 'd6ff00000000',
  'a map with a key that is a list': '819001',
  'a huge length': 'dfffffffff',
  'a prototype': `81a9${text('__proto__')}80`,
  'a very deep nest': `${'91'.repeat(100)}00`,
};
for (const [name, hex] of Object.entries(malformed)) {
  test(`P-17: ${name} is an error, not a crash`, () => {
    assert.throws(() => decodeCty(bytes(hex)), CtyError);
  });
}

const tree = fc.letrec<{ value: CtyValue }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constant(null),
    fc.boolean(),
    fc.maxSafeInteger(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.string({ unit: 'grapheme' }),
    fc.array(tie('value')),
    fc.dictionary(
      fc.string().filter((it) => it !== '__proto__'),
      tie('value'),
    ),
  ),
})).value;

test('P-17: every value survives; 64-bit integers become bigint', () => {
  const normal = (value: CtyValue): unknown => {
    if (typeof value === 'bigint') return Number(value);
    if (Array.isArray(value)) return value.map(normal);
    if (typeof value === 'object' && value !== null) {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, normal(item)]));
    }
    return Object.is(value, -0) ? 0 : value;
  };
  fc.assert(
    fc.property(tree, (value) => {
      assert.deepEqual(normal(decodeCty(encode(value))), normal(value));
    }),
  );
});

test('P-12 P-17: any bytes give a value or a CtyError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (input) => {
      try {
        decodeCty(input);
      } catch (error) {
        assert.ok(error instanceof CtyError);
      }
    }),
    { numRuns: 2000 },
  );
});
