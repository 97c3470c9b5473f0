import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { decodeConfig } from '../../src/plugin/hcl/decode-fields.ts';
import { hclSpec } from '../../src/plugin/hcl/hcl-spec.ts';
import { parseHostPort } from '../../src/plugin/hcl/host-port.ts';
import type { Problem } from '../../src/plugin/hcl/problem.ts';
import type { Fields } from '../../src/plugin/hcl/schema.ts';
import { parseSize } from '../../src/plugin/hcl/size.ts';

const path = { kind: 'attr', type: 'string', required: true, doc: 'A path.' } as const;
const fields = {
  pool: { kind: 'block-map', doc: 'A pool.', example: 'local', fields: { path } },
  item: { kind: 'block-list', firstIndex: 1, doc: 'An item.', fields: { path } },
  image_path: { kind: 'instead', use: '`image`' },
} as const satisfies Fields;

function decode(config: unknown) {
  const problems: Problem[] = [];
  const value = decodeConfig(fields, encode(config), { what: 'config', problems });
  return { value, problems: problems.map(({ path, text }) => `${path}: ${text}`) };
}

test('P-15: blocks with a label are a map, and a list of one block is that block', () => {
  const { value, problems } = decode({ pool: { a: { path: '/a' }, 'b c': [{ path: '/b' }] } });
  assert.deepEqual(problems, []);
  assert.deepEqual(
    [...value.pool],
    [
      ['a', { path: '/a' }],
      ['b c', { path: '/b' }],
    ],
  );
  assert.equal(decode({ pool: null }).value.pool.size, 0);
});

test('P-15: a problem in a block with a label has the label in its path', () => {
  assert.deepEqual(decode({ pool: { a: null, b: { path: 1 }, c: [{}, {}], d: 7 } }).problems, [
    'pool.a.path: is required',
    'pool.b.path: must be text, not the number 1',
    'pool.c: may be specified only once',
    'pool.c.path: is required',
    'pool.d: must be a block, not the number 7',
    'pool.d.path: is required',
  ]);
});

test('P-15: a list of blocks is numbered as in its field', () => {
  assert.deepEqual(decode({ item: [{ path: '/a' }, {}] }).problems, ['item[2].path: is required']);
});

test('V-136: a key of another driver is refused with the key to use, whatever its value', () => {
  for (const image_path of ['/a', 7, true, ['a'], [{ a: 1 }]]) {
    assert.deepEqual(decode({ image_path }).problems, [
      'image_path: is not a key of this driver: use `image`',
    ]);
  }
  assert.deepEqual(decode({ image_path: null }).problems, []);
});

test('P-15: the schema names the label of a block, and takes any value for a key of another driver', () => {
  const { block } = hclSpec(fields);
  assert.ok(block.case === 'object');
  const { pool, image_path } = block.value.attributes;
  assert.ok(pool?.block.case === 'blockMap');
  assert.deepEqual([pool.block.value.name, pool.block.value.labels], ['pool', ['name']]);
  assert.ok(image_path?.block.case === 'attr');
  assert.equal(image_path.block.value.type, 'any');
});

const sizes: Readonly<Record<string, number | undefined>> = {
  '0': 0,
  '1234': 1234,
  '12B': 12,
  '2KB': 2000,
  '2 KiB': 2048,
  '3mb': 3e6,
  '3MIB': 3 * 1024 ** 2,
  '20GB': 20e9,
  '20GiB': 20 * 1024 ** 3,
  '20G': 20 * 1024 ** 3,
  '20 Gi': 20 * 1024 ** 3,
  '1TB': 1e12,
  '1TiB': 1024 ** 4,
  '1PB': 1e15,
  '1E': 1024 ** 6,
  '': undefined,
  GiB: undefined,
  '-1': undefined,
  '1.5GiB': 1.5 * 1024 ** 3,
  '2.75 T': 2.75 * 1024 ** 4,
  '0.1KB': 100,
  '8.2GB': 8_200_000_000,
  '1.5': undefined,
  '1.5B': undefined,
  '.5GiB': undefined,
  '1.GiB': undefined,
  '1,5GiB': undefined,
  '1  GiB': undefined,
  '1iB': undefined,
  '1i': undefined,
  '1XB': undefined,
  '1GiBs': undefined,
  '1GiB\n': undefined,
  '1e3': undefined,
  '0x10': undefined,
};
for (const [text, bytes] of Object.entries(sizes)) {
  test(`V-27: the size ${JSON.stringify(text)} is ${bytes ?? 'none'}`, () =>
    assert.equal(parseSize(text), bytes));
}

test('V-46: hosts with ports', () => {
  assert.deepEqual(parseHostPort('a.example:1'), { host: 'a.example', port: 1 });
  assert.deepEqual(parseHostPort('[fe80::1]'), { host: 'fe80::1', port: undefined });
  for (const text of ['', ':1', 'a:', 'a:1:2', '[::1', '[]', '[::1]x', 'a/b', '-a', 'a\n', '[a]:1'])
    assert.equal(parseHostPort(text), undefined, text);
});
