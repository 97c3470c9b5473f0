import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FrameReader, formatCommand, maxLineBytes } from '../../src/qmp/frame.ts';
import { greeting } from '../support/qmp-server.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const reply = '{"return": {"status": "running ünïcode €", "running": true}, "id": 1}\r\n';
const refusal = '{"id": 2, "error": {"class": "GenericError", "desc": "no \\"x\\" \\n here"}}\r\n';
const event =
  '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESET", "data": {"guest": true}}\r\n';

function readAll(chunks: readonly Uint8Array[], maxBytes = maxLineBytes): string[] {
  const frames = new FrameReader({ maxBytes });
  return chunks.flatMap((chunk) => [...frames.push(chunk)]);
}

for (const [name, line] of Object.entries({ greeting, reply, refusal, event })) {
  test(`frame: a ${name} cut at every byte comes out whole`, () => {
    const whole = bytes(line);
    for (let cut = 0; cut <= whole.length; cut += 1) {
      assert.deepEqual(readAll([whole.subarray(0, cut), whole.subarray(cut)]), [line.trim()]);
    }
  });
}

test('frame: all kinds of lines in one stream, cut at every byte and into single bytes', () => {
  const whole = bytes(greeting + reply + event + refusal);
  const expected = [greeting, reply, event, refusal].map((line) => line.trim());
  for (let cut = 0; cut <= whole.length; cut += 1) {
    assert.deepEqual(readAll([whole.subarray(0, cut), whole.subarray(cut)]), expected);
  }
  const single = [...whole].map((byte) => Uint8Array.of(byte));
  assert.deepEqual(readAll(single), expected);
});

test('frame: property: any texts in any cuts come out as they went in', () => {
  const texts = fc.array(
    fc.json().filter((text) => !text.includes('\n')),
    { maxLength: 8 },
  );
  fc.assert(
    fc.property(texts, fc.array(fc.nat(200), { maxLength: 30 }), (lines, cuts) => {
      const whole = bytes(lines.map((line) => `${line}\r\n`).join(''));
      const chunks: Uint8Array[] = [];
      let at = 0;
      for (const cut of cuts) {
        chunks.push(whole.subarray(at, at + cut));
        at = Math.min(whole.length, at + cut);
      }
      chunks.push(whole.subarray(at));
      assert.deepEqual(
        readAll(chunks),
        lines.map((line) => line.trim()),
      );
    }),
  );
});

test('frame: blank lines are left out, bare LF will do', () => {
  assert.deepEqual(readAll([bytes('\r\n\n{"a":1}\n \r\n{"b":2}\r\n')]), ['{"a":1}', '{"b":2}']);
});

test('frame: knows whether the input ended inside a line', () => {
  const frames = new FrameReader();
  assert.equal(frames.unfinished, false);
  assert.deepEqual([...frames.push(bytes('{"a"'))], []);
  assert.equal(frames.unfinished, true);
  assert.deepEqual([...frames.push(bytes(':1}\n'))], ['{"a":1}']);
  assert.equal(frames.unfinished, false);
});

test('frame: a line of the limit passes, one byte more does not, finished or not', () => {
  const fits = bytes(`${'x'.repeat(64)}\n`);
  assert.deepEqual(readAll([fits], 64), ['x'.repeat(64)]);
  assert.deepEqual(readAll([fits.subarray(0, 30), fits.subarray(30)], 64), ['x'.repeat(64)]);
  for (const chunks of [
    [bytes(`${'x'.repeat(65)}\n`)],
    [bytes('x'.repeat(65))],
    [bytes('x'.repeat(60)), bytes('x'.repeat(5))],
    [bytes('x'.repeat(60)), bytes('x'.repeat(5)), bytes('\n')],
  ]) {
    assert.throws(() => readAll(chunks, 64), { name: 'QmpError', code: 'protocol' });
  }
});

test('frame: good lines before a bad one in the same chunk are not lost', () => {
  const frames = new FrameReader({ maxBytes: 20 });
  const seen: string[] = [];
  assert.throws(() => {
    for (const text of frames.push(bytes(`{"a":1}\n${'x'.repeat(30)}`))) seen.push(text);
  });
  assert.deepEqual(seen, ['{"a":1}']);
});

test('frame: what is not UTF-8 is a protocol error', () => {
  assert.throws(() => readAll([Uint8Array.of(0x22, 0xff, 0xfe, 0x22, 0x0a)]), { code: 'protocol' });
});

test('frame: a command has no line end, which would reset the socket after quit', () => {
  assert.equal(
    formatCommand('set-action', { panic: 'pause' }, 7),
    '{"execute":"set-action","arguments":{"panic":"pause"},"id":7}',
  );
});
