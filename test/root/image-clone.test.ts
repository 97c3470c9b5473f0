import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { patient } from '../support/patience.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const door = join(import.meta.dirname, '../../src/image/index.ts');

/** Runs where an XFS is mounted at the first argument: clones a file of 10 000 extents, and gives up on a second clone. */
const program = `
  import { openSync, writeSync } from 'node:fs';
  import { monitorEventLoopDelay } from 'node:perf_hooks';
  import { setTimeout as sleep } from 'node:timers/promises';
  import { copyImage, imageHandler } from ${JSON.stringify(door)};
  const [xfs] = process.argv.slice(1);
  const signal = AbortSignal.timeout(60000);
  const source = openSync(xfs + '/source.img', 'w+');
  const block = Buffer.alloc(4096, 0x5a);
  for (let at = 0; at < 10000; at += 1) writeSync(source, block, 0, block.length, at * 8192);
  const roots = { trusted: [xfs], task: [], relativeTo: [] };
  using image = await imageHandler.getImageFormat(xfs + '/source.img', roots, { maxVirtualBytes: 2 ** 40 }, { signal });
  using delay = monitorEventLoopDelay({ resolution: 5 });
  const delays = [];
  const times = [];
  for (let round = 0; round < 3; round += 1) {
    delay.reset();
    delay.enable();
    await sleep(20); // the first tick is only where it counts from
    const begun = performance.now();
    const { how } = await copyImage(image, openSync(xfs + '/copy' + round, 'w+'), { signal });
    if (how !== 'reflink') throw new Error(how);
    times.push(performance.now() - begun);
    await sleep(20);
    delay.disable();
    delays.push(delay.max / 1e6);
  }
  const begun = performance.now();
  const short = { signal: AbortSignal.timeout(20) };
  const given = await copyImage(image, openSync(xfs + '/copy9', 'w+'), short).then(() => '', String);
  console.log(JSON.stringify({ delays, times, given, gaveUpMs: performance.now() - begun }));
`;

test('cloning an image of very many extents stops neither the loop nor the one who gives up', (t) => {
  const mkfs = findProgram('mkfs.xfs') ?? '/usr/sbin/mkfs.xfs';
  const can = process.getuid?.() === 0 && findProgram('unshare') !== undefined;
  if (!requireOrSkip(t, can && findProgram('mkfs.xfs') !== undefined, 'needs root, and mkfs.xfs'))
    return;
  const dir = tmpDir(t);
  const disk = join(dir, 'disk');
  const xfs = join(dir, 'xfs');
  mkdirSync(xfs);
  spawnSync('truncate', ['-s', '1G', disk]);
  assert.equal(spawnSync(mkfs, ['-q', '-m', 'reflink=1', disk]).status, 0);
  const script = 'mount -o loop "$2" "$1" && exec "$0" --input-type=module -e "$3" "$1"';
  const result = spawnSync(
    'unshare',
    ['--mount', 'sh', '-c', script, process.execPath, xfs, disk, program],
    { encoding: 'utf8', timeout: 120_000 },
  );
  assert.equal(result.status, 0, result.stderr);
  const { delays, times, given, gaveUpMs } = JSON.parse(result.stdout);
  t.diagnostic(
    `clones took ${times.map(Math.round)} ms, the loop stood still for ${delays.map(Math.round)} ms`,
  );
  // The best of three: the machine has other work. A clone on the loop would stop it for as long as it takes.
  assert.ok(Math.min(...delays) < Math.min(...times) / 2);
  assert.ok(Math.min(...times) > 40, 'it takes longer than the caller waits who gives up');
  assert.match(given, /TimeoutError|cancelled|timeout/);
  assert.ok(gaveUpMs < patient(500), `${gaveUpMs} ms`);
});
