import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Domain } from '#vm';
import { execIn } from './exec.ts';
import { soon } from './vm.ts';

const MiB = 2 ** 20;

/**
 * Sends so many random MiB through `cat` in the guest and compares what comes back. A slow reader pauses at each piece
 * until the next turn of its clock. Returns the milliseconds that it took.
 */
export async function streamThrough(
  domain: Domain,
  mebibytes: number,
  { pauseMs = 0 }: { readonly pauseMs?: number } = {},
): Promise<number> {
  const sent = createHash('sha256');
  const got = createHash('sha256');
  using cat = await execIn(domain, ['cat']);
  const limit = soon(300_000);
  const feed = async (): Promise<void> => {
    for (let count = 0; count < mebibytes; count += 1) {
      const bytes = randomBytes(MiB);
      sent.update(bytes);
      await cat.write(bytes, limit);
    }
    cat.endInput();
  };
  const begun = performance.now();
  const feeding = feed();
  for await (const { data } of cat.output) {
    got.update(data);
    if (pauseMs > 0) await sleep(pauseMs);
  }
  await feeding;
  assert.equal(got.digest('hex'), sent.digest('hex'));
  assert.equal((await cat.exit(soon())).exitCode, 0);
  return performance.now() - begun;
}
