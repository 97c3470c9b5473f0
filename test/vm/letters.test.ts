import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wholeLetters } from '../../src/vm/guest/letters.ts';

const text = 'a│ä…ß€😀z';
const bytes = Buffer.from(text);

/** What is passed on of the chunks, when the rest of a letter comes in time or not. */
async function passedOn(chunks: readonly Buffer[], inTime: boolean): Promise<readonly string[]> {
  async function* coming(): AsyncGenerator<Buffer, void, undefined> {
    yield* chunks;
  }
  const passed: string[] = [];
  for await (const chunk of wholeLetters(coming(), async () => inTime)) {
    passed.push(Buffer.from(chunk).toString('hex'));
  }
  return passed;
}

const hex = (...parts: readonly string[]): readonly string[] =>
  parts.map((it) => Buffer.from(it).toString('hex'));

test('V-95: what a terminal shows is passed on in whole letters, wherever it is cut', async () => {
  assert.deepEqual(
    await passedOn(
      [...bytes].map((it) => Buffer.of(it)),
      true,
    ),
    hex(...text),
  );
  for (let at = 1; at < bytes.length; at += 1) {
    const parts = await passedOn([bytes.subarray(0, at), bytes.subarray(at)], true);
    assert.equal(parts.join(''), bytes.toString('hex'));
    for (const part of parts) {
      const shown = Buffer.from(part, 'hex').toString();
      assert.ok(text.includes(shown), `cut after ${at} bytes: ${shown}`);
    }
  }
});

test('V-95: the beginning of a letter is passed on alone where nothing follows it, and at the end', async () => {
  const cafe = Buffer.from('caf\xe9', 'latin1');
  assert.deepEqual(await passedOn([cafe, Buffer.from('s')], false), [...hex('caf'), 'e9', '73']);
  assert.deepEqual(await passedOn([cafe], true), [...hex('caf'), 'e9']);
});

test('V-95: bytes that begin no letter are not kept back', async () => {
  for (const other of ['80', 'c1', 'f5', 'ff', 'c328', '80808080', 'e28a828a']) {
    assert.deepEqual(await passedOn([Buffer.from(other, 'hex')], true), [other]);
  }
});
