import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { gzipSync } from 'node:zlib';
import { decompress } from '../../src/image/import/decompress.ts';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

test('of a stream that comes in many pieces nothing is kept once they are decompressed', async () => {
  const bytes = randomBytes(30_000);
  const packed = gzipSync(bytes);
  const used: number[] = [];
  async function* pieces() {
    for (let at = 0; at < packed.length; at += 1) {
      yield packed.subarray(at, at + 1);
      if (at % 10_000 !== 2000) continue;
      collectGarbage();
      used.push(process.memoryUsage().heapUsed);
    }
  }
  let read = 0;
  for await (const piece of decompress('gzip', pieces())) {
    assert.ok(bytes.subarray(read, read + piece.length).equals(piece));
    read += piece.length;
  }
  assert.equal(read, bytes.length);
  const grown = (used.at(-1) ?? Number.NaN) - (used[0] ?? Number.NaN);
  assert.ok(grown < 1024 * 1024, `${grown} bytes for 20000 pieces`);
});
