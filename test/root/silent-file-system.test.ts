import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { QmpClient } from '#qmp';
import type { DiskSpec, VmSpec } from '#spec';
import { reconnect } from '../../src/vm/control/nbd-connection.ts';
import { diskOn } from '../support/disks.ts';
import { sectorImage } from '../support/images.ts';
import { patient } from '../support/patience.ts';
import { QmpServer } from '../support/qmp-server.ts';
import { requireOrSkip } from '../support/require.ts';
import { silentMount } from '../support/silent-mount.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

/** The longest time in which the event loop did nothing else while something went on. */
async function longestHold<T>(
  work: Promise<T>,
): Promise<{ readonly result: T; readonly ms: number }> {
  let [ends, ms] = [false, 0];
  const watch = async (): Promise<void> => {
    for (let before = performance.now(); !ends; before = performance.now()) {
      await sleep(5);
      ms = Math.max(ms, performance.now() - before);
    }
  };
  const watched = watch();
  const result = await work.finally(() => {
    ends = true;
  });
  await watched;
  return { result, ms };
}

const many = `
  import { stat } from 'node:fs/promises';
  import { answered, errnoOf } from ${JSON.stringify(import.meta.resolve('#host'))};
  const waiting = { signal: new AbortController().signal };
  const ask = (n) => answered(process.argv[1] + '/' + n, (path) => stat(path), waiting).catch(errnoOf);
  const given = await Promise.all(Array.from({ length: 40 }, (_, n) => ask(n)));
  console.log([...new Set(given)].join(), (await stat('/')).isDirectory());`;

test('of the threads some are left, however many paths do not answer', async (t) => {
  if (!requireOrSkip(t, process.getuid?.() === 0, 'needs root: mounts FUSE')) return;
  // As many as the plugin has.
  const args = ['--input-type=module', '-e', many, silentMount(t)];
  const child = spawn(process.execPath, args, {
    env: { UV_THREADPOOL_SIZE: '16' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // It can not end while its threads wait.
  t.after(() => child.kill('SIGKILL'));
  const output = once(child.stdout, 'data', { signal: AbortSignal.timeout(patient(20_000)) });
  assert.equal(String(await output), 'ETIMEDOUT true\n');
});

test('a file system that does not answer fails the start that needs it, and holds up nothing else', async (t) => {
  if (!canRunVms(t)) return;
  const silent = silentMount(t);
  await using ground = VmGround.open({
    imagePaths: [silent, join(sectorImage(0), '..')],
    pools: { pools: [{ kind: 'directory', name: 'far', path: silent }], default: undefined },
  });
  const virtualizer = ground.virtualizer();
  const boot = diskOn(sectorImage(0), 1);
  const second: DiskSpec = { ...boot, block: 2, name: 'vdb', primary: false };
  const cases: Readonly<Record<string, Partial<VmSpec>>> = {
    image: { disks: [diskOn(join(silent, 'disk.raw'), 1)] },
    pool: { disks: [{ ...boot, place: { kind: 'pool', pool: 'far' } }] },
    'disk in a volume': {
      disks: [boot, { ...second, place: { kind: 'volume', hostPath: silent, readOnly: false } }],
    },
    'socket of an NBD server': {
      disks: [
        boot,
        {
          ...second,
          place: { kind: 'nbd', server: { socket: join(silent, 'nbd.sock') }, export: '' },
        },
      ],
    },
    'volume in the guest': {
      shares: [{ tag: 'data', source: silent, target: '/data', readOnly: true, volume: true }],
    },
  };
  // One after the other: each begins with the questions that an earlier one still waits for.
  for (const [what, changes] of Object.entries(cases)) {
    await t.test(what, async () => {
      const problems = virtualizer.problemsOf(ground.spec(0, changes), soon(30_000));
      const { result, ms } = await longestHold(problems);
      assert.match(result.join('\n'), /silent.*has not answered within 5 s/);
      assert.ok(ms < patient(100), `the event loop was held ${ms} ms`);
    });
  }
  await t.test('an NBD server before its disk is resized', async () => {
    await using server = await QmpServer.start();
    await using qmp = await QmpClient.connect(server.path, soon());
    const nbd = {
      server: { type: 'unix', path: join(silent, 'other.sock') },
      discard: true,
    } as const;
    const disk = {
      kind: 'disk',
      id: 'disk-2',
      path: 'nbd',
      format: 'raw',
      image: '',
      nbd,
    } as const;
    const asked = reconnect(disk, qmp, soon(30_000)).then(String, String);
    const { result, ms } = await longestHold(asked);
    assert.match(result, /the NBD server does not answer: /);
    assert.ok(ms < patient(100), `the event loop was held ${ms} ms`);
  });
  await t.test('a VM that needs none of it starts', async () => {
    const domain = await virtualizer.createDomain(ground.spec(0), soon(60_000));
    await virtualizer.destroyDomain(domain.name);
  });
});
