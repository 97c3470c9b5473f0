import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { maxDepth, maxDigits, maxItems } from '../../src/qmp/json-limits.ts';
import { figure, parseJson, parseMessage } from '../../src/qmp/message.ts';
import { greeting } from '../support/qmp-server.ts';

test('message: the four kinds are distinguished', () => {
  assert.deepEqual(parseMessage(greeting), { kind: 'greeting' });
  assert.deepEqual(parseMessage('{"return": {}, "id": 3}'), { kind: 'reply', id: 3, value: {} });
  assert.deepEqual(parseMessage('{"return": null}'), { kind: 'reply', id: undefined, value: null });
  assert.deepEqual(
    parseMessage('{"id": "x", "error": {"class": "DeviceNotFound", "desc": "none"}}'),
    { kind: 'error', id: 'x', description: 'none' },
  );
  assert.deepEqual(
    parseMessage('{"timestamp": {"seconds": 1700000000, "microseconds": 250999}, "event": "STOP"}'),
    { kind: 'event', event: { event: 'STOP', data: {}, atMs: 1_700_000_000_250 } },
  );
});

test('message: an event survives a clock that QEMU could not read (-1)', () => {
  const text = '{"timestamp": {"seconds": -1, "microseconds": -1}, "event": "STOP"}';
  assert.deepEqual(parseMessage(text), {
    kind: 'event',
    event: { event: 'STOP', data: {}, atMs: 0 },
  });
});

const malformed: Readonly<Record<string, string>> = {
  'not JSON': '{"return": ',
  'a shell prompt': '(qemu) info status',
  'a list': '[1, 2]',
  'a number': '17',
  null: 'null',
  'a string': '"QMP"',
  'an object of no known kind': '{"hello": "world"}',
  'an error without a description': '{"error": {"class": "x"}, "id": 1}',
  'an error that is a text': '{"error": "x", "id": 1}',
  'a greeting that is a text': '{"QMP": "7.2"}',
  'a greeting that is a list': '{"QMP": [7, 2]}',
  'an event whose name is a number': '{"event": 5}',
  'NUL bytes': '\0\0\0{"return": {}}',
  'nesting of lists': `{"return": ${'['.repeat(maxDepth)}${']'.repeat(maxDepth)}}`,
  'nesting of objects': `${'{"a":'.repeat(maxDepth + 1)}1${'}'.repeat(maxDepth + 1)}`,
  'a million open brackets': '['.repeat(1_000_000),
  'a list of too many numbers': `{"return": [${'0,'.repeat(maxItems)}0]}`,
  'a list of too many objects': `{"return": [${'{},'.repeat(maxItems / 2)}{}]}`,
  'a number of too many digits': `{"return": ${'9'.repeat(maxDigits + 1)}}`,
};
for (const [name, text] of Object.entries(malformed)) {
  test(`message: ${name} is a protocol error`, () => {
    assert.throws(() => parseMessage(text), { name: 'QmpError', code: 'protocol' });
  });
}

test('message: brackets inside texts are no nesting, escaped quotes included', () => {
  const value = `${'['.repeat(5000)}"\\${'{'.repeat(5000)}`;
  assert.deepEqual(parseMessage(JSON.stringify({ return: value, id: 1 })), {
    kind: 'reply',
    id: 1,
    value,
  });
});

test('message: the deepest nesting that is taken', () => {
  const depth = maxDepth - 1;
  assert.equal(parseMessage(`{"return": ${'['.repeat(depth)}${']'.repeat(depth)}}`).kind, 'reply');
});

test('message: integers that a double can not hold come as bigint, all others as numbers', () => {
  assert.deepEqual(
    parseJson(
      '{"u64": 18446744073709551615, "i64": -9223372036854775808, "safe": 9007199254740991, "next": 9007199254740993, "double": 1.5, "small": 0.1234567890123456, "large": 1e300, "list": [18446744073709551615], "text": "18446744073709551615"}',
    ),
    {
      u64: 18446744073709551615n,
      i64: -9223372036854775808n,
      safe: 9007199254740991,
      next: 9007199254740993n,
      double: 1.5,
      small: 0.1234567890123456,
      large: 1e300,
      list: [18446744073709551615n],
      text: '18446744073709551615',
    },
  );
});

test('message: property: every 64-bit integer survives', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }), (value) => {
      const parsed = parseJson(`{"v": ${value}}`);
      assert.deepEqual(parsed, { v: Number.isSafeInteger(Number(value)) ? Number(value) : value });
    }),
  );
});

const rounded = (_key: string, value: unknown): unknown =>
  typeof value === 'bigint' ? Number(value) : value;

test('message: property: large integers apart, JSON is what JSON.parse makes of it', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
      const text = JSON.stringify(value);
      assert.equal(JSON.stringify(parseJson(text), rounded), text);
    }),
  );
});

test('message: figures: what is not available is undefined, never a huge number', () => {
  assert.equal(figure(18446744073709551615n), undefined);
  assert.equal(figure(9223372036854775808n), undefined);
  assert.equal(figure(9007199254740993n), 9007199254740992);
  assert.equal(figure(-1), undefined);
  assert.equal(figure('5'), undefined);
  assert.equal(figure(undefined), undefined);
  assert.equal(figure(0), 0);
});
