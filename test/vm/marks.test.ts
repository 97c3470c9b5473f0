import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Mark, MarkReader, markPrefix } from '../../src/vm/guest/marks.ts';

const session = '0123456789abcdef';
const prefix = markPrefix(session);

/** Output as text, marks as they are; neighbouring pieces of output are one. */
function readAll(chunks: readonly string[]): readonly (string | Mark)[] {
  const reader = new MarkReader(session);
  const pieces = chunks.flatMap((chunk) => [...reader.push(Buffer.from(chunk, 'latin1'))]);
  const found: (string | Mark)[] = [];
  for (const piece of [...pieces, reader.rest()]) {
    const last = found.at(-1);
    if (!(piece instanceof Uint8Array)) found.push(piece);
    else if (piece.length === 0) continue;
    else if (typeof last === 'string') found.splice(-1, 1, last + latin1(piece));
    else found.push(latin1(piece));
  }
  return found;
}

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
const ended = (code: number): Mark => ({ kind: 'ended', code });

const cases: Readonly<
  Record<string, readonly [input: string, pieces: readonly (string | Mark)[]]>
> = {
  'no mark': ['hello\n', ['hello\n']],
  'a mark alone': [`${prefix}:0;`, [ended(0)]],
  'output, then a mark': [`abc${prefix}:255;`, ['abc', ended(255)]],
  'a terminal, its output, the end': [
    `login${prefix}@3;$ ${prefix}:7;`,
    ['login', { kind: 'begun', terminal: 3 }, '$ ', ended(7)],
  ],
  'separators that begin no mark': ['\x1e\x1e01\x1e', ['\x1e\x1e01\x1e']],
  'a mark of another session': [`\x1e0123456789abcdee:0;`, ['\x1e0123456789abcdee:0;']],
  'a mark after its own beginning': [`\x1e0123${prefix}:1;`, ['\x1e0123', ended(1)]],
  'what only looks like a mark': [
    `${prefix};${prefix}:;${prefix}:1234;${prefix}:1 ;${prefix}`,
    [`${prefix};${prefix}:;${prefix}:1234;${prefix}:1 ;${prefix}`],
  ],
  'half a mark at the end': [`abc${prefix}:1`, [`abc${prefix}:1`]],
};

for (const [name, [input, pieces]] of Object.entries(cases)) {
  test(`marks: ${name}, whole and cut anywhere`, () => {
    assert.deepEqual(readAll([input]), pieces);
    for (let cut = 1; cut < input.length; cut += 1) {
      assert.deepEqual(readAll([input.slice(0, cut), input.slice(cut)]), pieces, `cut at ${cut}`);
    }
    assert.deepEqual(readAll([...input]), pieces, 'single bytes');
  });
}

test('marks: what can be no mark is passed on at once, and a beginning is kept as it is short', () => {
  const reader = new MarkReader(session);
  assert.deepEqual(
    [...reader.push(Buffer.from('$ '))].map((it) => String(it)),
    ['$ '],
  );
  const [output] = reader.push(Buffer.alloc(100_000, prefix.slice(0, 5)));
  assert.ok(output instanceof Uint8Array && output.length >= 100_000 - prefix.length);
});
