import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { KeyedQueue } from '#host';
import { ImageStore } from '#image';
import { Networks } from '#net';
import { Remover } from '../../src/vm/store/remove.ts';
import { Sweeper } from '../../src/vm/sweeper.ts';
import { tmpDir } from '../support/tmp.ts';
import { collect } from '../support/vm.ts';

const minuteMs = 60_000;

/** A sweeper whose sweeps fail, since the list of VMs is no directory, and the lines that it logs. */
function sweeperThatFails(t: TestContext) {
  const dataDir = tmpDir(t);
  writeFileSync(join(dataDir, 'vms'), '');
  const lines: string[] = [];
  const log = collect(lines);
  const networks = Networks.open({
    stateDir: join(dataDir, 'networks'),
    managed: [],
    bridges: [],
    maxConnections: 1,
    nft: '/usr/sbin/nft',
    log,
  });
  const host = {
    dataDir,
    runDir: join(dataDir, 'run'),
    imagePaths: [],
    uidRange: { min: 1_900_000_000, max: 1_900_000_001 },
    maxImageBytes: 1,
    pools: { pools: [], default: undefined },
    images: new ImageStore({ dir: join(dataDir, 'image-store'), maxBytes: 0, log }),
    networks,
    log,
  };
  const queue = new KeyedQueue();
  const remover = new Remover(host);
  const sweeper = new Sweeper(host, {
    queue,
    remover,
    stateOf: () => undefined,
    destroy: (name) => remover.remove(name),
  });
  t.after(() => networks[Symbol.asyncDispose]());
  return { sweeper, sweeps: () => lines.filter((line) => line.includes('sweep failed')) };
}

test('a sweep that fails is reported, and the next one is due after ten minutes', async (t) => {
  const { sweeper, sweeps } = sweeperThatFails(t);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  using _ = sweeper;
  sweeper.begin();
  for (const [afterMs, count] of [
    [minuteMs, 1],
    [10 * minuteMs, 2],
  ] as const) {
    t.mock.timers.tick(afterMs);
    while (sweeps().length < count) await new Promise(setImmediate);
  }
  assert.match(sweeps()[0] ?? '', /ENOTDIR/);
});

test('a removal that failed brings the next sweep forward and never puts it off', async (t) => {
  const { sweeper, sweeps } = sweeperThatFails(t);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  using _ = sweeper;
  sweeper.begin();
  t.mock.timers.tick(minuteMs - 1);
  sweeper.retrySoon();
  t.mock.timers.tick(1);
  while (sweeps().length < 1) await new Promise(setImmediate);
  // The next is due in ten minutes, or sooner when something has failed.
  sweeper.retrySoon();
  t.mock.timers.tick(minuteMs);
  while (sweeps().length < 2) await new Promise(setImmediate);
});
