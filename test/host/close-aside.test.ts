import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync } from 'node:fs';
import { test } from 'node:test';
import { closeAside } from '#host';

test('what is closed in threads are these descriptors and none between them', async () => {
  using open = new DisposableStack();
  const fds = Array.from({ length: 30 }, () => openSync('/dev/null', 'r'));
  const kept = fds.filter((_, at) => [3, 11, 12, 29].includes(at));
  for (const fd of kept) open.adopt(fd, closeSync);
  await closeAside(...fds.filter((fd) => !kept.includes(fd)).toReversed());
  assert.deepEqual(
    fds.filter((fd) => existsSync(`/proc/self/fd/${fd}`)),
    kept,
  );
});
