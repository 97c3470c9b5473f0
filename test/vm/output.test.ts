import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { markPrefix } from '../../src/vm/guest/marks.ts';
import { piecesOf, streamsOf } from '../../src/vm/guest/output.ts';
import { tmpDir } from '../support/tmp.ts';

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
