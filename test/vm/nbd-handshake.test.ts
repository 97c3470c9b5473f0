import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type NbdExport, NbdHandshake } from '../../src/vm/disks/nbd/nbd-handshake.ts';
import { exportInfo, greeting, nbdErrors, nbdReply, oldGreeting } from '../support/nbd-bytes.ts';

/** What the client finds in these bytes of a server, given in pieces of this length. */
function found(bytes: Buffer, pieceBytes: number): NbdExport | undefined {
  const handshake = new NbdHandshake('data');
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const { found } = handshake.push(bytes.subarray(at, at + pieceBytes));
    if (found !== undefined) return found;
  }
  return undefined;
}

const done = nbdReply(1);
const bytes = 8n * 1024n * 1024n;

const cases: Readonly<Record<string, readonly [Buffer, NbdExport]>> = {
  'an export': [
    Buffer.concat([greeting(), exportInfo(bytes), done]),
    { kind: 'known', bytes, readOnly: false },
  ],
  'a read-only one, with facts that were not asked for': [
    Buffer.concat([
      greeting(),
      nbdReply(3, Buffer.from([0, 3, 0, 0])),
      exportInfo(bytes, 3),
      nbdReply(3, Buffer.from([0, 1, 65, 66])),
      done,
    ]),
    { kind: 'known', bytes, readOnly: true },
  ],
  'a server that knows no such question': [
    Buffer.concat([greeting(), nbdReply(nbdErrors.unsupported)]),
    { kind: 'unknown' },
  ],
  'a server that wants to know block sizes first': [
    Buffer.concat([greeting(), nbdReply(nbdErrors.blockSize)]),
    { kind: 'unknown' },
  ],
  'a server of the first protocol': [oldGreeting(bytes), { kind: 'unknown' }],
  'a server without fixed options': [greeting(0), { kind: 'unknown' }],
};

for (const [name, [sent, expected]] of Object.entries(cases)) {
  test(`V-47: what a server states: ${name}`, () => {
    for (let pieceBytes = 1; pieceBytes <= sent.length; pieceBytes += 1) {
      assert.deepEqual(found(sent, pieceBytes), expected);
    }
  });
}

const text = Buffer.from(`no \x1b[31m\nsuch export${'!'.repeat(4000)}`);
const refusals: Readonly<Record<string, readonly [Buffer, RegExp]>> = {
  'another protocol': [Buffer.from('HTTP/1.1 400 Bad Request\r\n'), /is no NBD server$/],
  'one byte of it': [Buffer.from('H'), /is no NBD server$/],
  'a demand for TLS': [Buffer.concat([greeting(), nbdReply(nbdErrors.tls)]), /demands TLS/],
  'a text that harms a terminal, and is long': [
    Buffer.concat([greeting(), nbdReply(nbdErrors.unknownExport, text)]),
    /^asked for the export "data", it does not have it: no \[31m such export!{100,190}…$/,
  ],
  'a reply without the mark of one': [
    Buffer.concat([greeting(), Buffer.alloc(20)]),
    /what it answers is not NBD$/,
  ],
  'a reply of 4 GiB': [
    Buffer.concat([greeting(), Buffer.concat([nbdReply(3).subarray(0, 16), Buffer.alloc(4, 255)])]),
    /what it answers is not NBD$/,
  ],
  'replies without end': [
    Buffer.concat([greeting(), ...Array<Buffer>(1000).fill(exportInfo(bytes))]),
    /what it answers is not NBD$/,
  ],
};

for (const [name, [sent, expected]] of Object.entries(refusals)) {
  test(`V-47: what a server can not state: ${name}`, () => {
    for (const pieceBytes of [1, 7, sent.length]) {
      assert.throws(() => found(sent, pieceBytes), { message: expected });
    }
  });
}

test('V-47: what is asked is one question and its end, in the protocol', () => {
  const handshake = new NbdHandshake('dä');
  const { send: question = new Uint8Array() } = handshake.push(greeting());
  const expected =
    '00000003' + '49484156454f5054' + '00000006' + '00000009' + '0000000364c3a4' + '0000';
  assert.equal(Buffer.from(question).toString('hex'), expected);
  const { send: end = new Uint8Array() } = handshake.push(done);
  assert.equal(Buffer.from(end).toString('hex'), '49484156454f50540000000200000000');
});

test('V-47: whatever a server sends, little of it is kept', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 50 }), (chunks) => {
      const handshake = new NbdHandshake('data');
      try {
        handshake.push(greeting());
        for (const chunk of chunks) handshake.push(chunk);
      } catch (error) {
        assert.match(String(error), /^Error: (what|asked)/);
      }
    }),
  );
});
