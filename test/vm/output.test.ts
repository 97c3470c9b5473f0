import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { markPrefix } from '../../src/vm/guest/marks.ts';
import { piecesOf, type Stream, streamsOf } from '../../src/vm/guest/output.ts';
import { tmpDir } from '../support/tmp.ts';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

const session = '0123456789abcdef';
/** In a chunk of a socket thousands of them fit. */
const count = 20_000;

for (const [what, piece] of Object.entries({ marks: '@1;', 'what only looks like marks': 'x' })) {
  test(`a guest that sends nothing but ${what} leaves time for everything else`, async (t) => {
    const path = join(tmpDir(t), 'out.sock');
    const guest = createServer((socket) =>
      socket.end(`${markPrefix(session)}${piece}`.repeat(count)),
    );
    guest.listen(path);
    t.after(() => guest.close());
    await once(guest, 'listening');
    const socket = connect(path);
    await once(socket, 'connect');
    let [pieces, inTurn, most] = [0, 0, 0];
    for await (const _ of piecesOf(
      streamsOf(new Map([['out', socket]]), { session, terminal: false }),
    )) {
      pieces += 1;
      inTurn += 1;
      most = Math.max(most, inTurn);
      if (inTurn > 1) continue;
      setImmediate(() => {
        inTurn = 0;
      });
    }
    assert.ok(pieces >= count, `${pieces} pieces`);
    assert.ok(most < 200, `${most} pieces in one turn of the event loop`);
  });
}

test('of what one stream sends nothing is kept while the other is silent', async () => {
  async function* prints(): Stream<'out'> {
    for (;;) yield { stream: 'out', data: new Uint8Array(1) };
  }
  const { promise: never } = Promise.withResolvers<void>();
  async function* isSilent(): Stream<'err'> {
    await never;
    yield { stream: 'err', data: new Uint8Array(1) };
  }
  const merged = piecesOf(
    new Map<'out' | 'err', Stream<'out' | 'err'>>([
      ['out', prints()],
      ['err', isSilent()],
    ]),
  );
  const read: WeakRef<object>[] = [];
  while (read.length < 1000) {
    const { value } = await merged.next();
    assert.ok(value !== undefined);
    read.push(new WeakRef(value));
  }
  // What was made in this turn is kept until its end.
  await immediate();
  collectGarbage();
  const kept = read.filter((it) => it.deref() !== undefined).length;
  assert.ok(kept < 10, `${kept} of ${read.length} pieces`);
  assert.ok((await merged.next()).value !== undefined);
});
