import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type DiskSpec, primaryDisk } from '#spec';
import { CephCluster } from '../support/ceph.ts';
import { imageOf } from '../support/disks.ts';
import { must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';
import { booted, canRunVms, soon, VmGround } from '../support/vm.ts';

const MiB = 1024 * 1024;

function inPool(block: number, name: string, changes: Partial<DiskSpec>): DiskSpec {
  const { source: _, ...disk } = primaryDisk({ image: '', thin: false });
  const place = { kind: 'pool', pool: 'ceph' } as const;
  return { ...disk, block, name, primary: block === 1, place, format: 'raw', ...changes };
}

function canRunCeph(t: TestContext): boolean {
  const programs = ['ceph-mon', 'ceph-osd', 'rbd'];
  const missing = programs.filter((program) => findProgram(program) === undefined);
  return (
    canRunVms(t) && requireOrSkip(t, missing.length === 0, `needs ${missing.join(', ')} of Ceph`)
  );
}

async function lifeOf(cluster: CephCluster, t: TestContext): Promise<void> {
  const pools = { pools: [cluster.pool], default: 'ceph' };
  await using ground = VmGround.open({ pools });
  const image = imageOf(ground.spec(0)) ?? '';
  await cluster.admin('rbd', 'import', '--no-progress', image, 'vms/golden');
  await cluster.admin('rbd', 'snap', 'create', '--no-progress', 'vms/golden@v1');
  await cluster.admin('rbd', 'snap', 'protect', 'vms/golden@v1');
  const images = async (): Promise<readonly string[]> =>
    (await cluster.admin('rbd', 'ls', 'vms')).split('\n').toSorted();
  const sizeOf = async (name: string): Promise<number> =>
    JSON.parse(await cluster.admin('rbd', 'info', '--format=json', `vms/${name}`)).size;
  const virtualizer = ground.virtualizer();
  const disks = [
    inPool(1, 'vda', { source: { kind: 'volume', volume: 'golden@v1' }, chained: true }),
    inPool(2, 'vdb', {
      source: { kind: 'volume', volume: 'golden' },
      sizeBytes: 8 * MiB,
      cache: 'none',
      throttle: { iops: 100 },
    }),
    inPool(3, 'vdc', { source: { kind: 'image', image }, sizeBytes: 4 * MiB }),
    inPool(4, 'vdd', { sizeBytes: 16 * MiB, cache: 'writethrough', discard: false }),
    inPool(5, 'vde', { source: { kind: 'image', image: 'local/disk.gz' } }),
  ];
  mkdirSync(join(ground.taskDir, 'local'), { recursive: true });
  writeFileSync(join(ground.taskDir, 'local/disk.gz'), gzipSync(readFileSync(image)));

  await t.test(
    'V-46: a VM boots from a clone, beside a copy, an upload and an empty disk',
    async () => {
      const spec = ground.spec(0, { ...ground.pipes(), disks });
      const domain = await virtualizer.createDomain(spec, soon(60_000));
      await booted(domain);
      assert.deepEqual(await images(), [
        'golden',
        'vm-0_vda',
        'vm-0_vdb',
        'vm-0_vdc',
        'vm-0_vdd',
        'vm-0_vde',
      ]);
      const parent = JSON.parse(
        await cluster.admin('rbd', 'info', '--format=json', 'vms/vm-0_vda'),
      );
      assert.equal(parent.parent.snapshot, 'v1');
      assert.equal(await sizeOf('vm-0_vdb'), 8 * MiB);
      assert.equal(await sizeOf('vm-0_vdc'), 4 * MiB);
      assert.equal(await sizeOf('vm-0_vdd'), 16 * MiB);
      assert.equal(await sizeOf('vm-0_vde'), Math.ceil(statSync(image).size / 512) * 512);
      assert.equal(domain.attributes['disk.vda.path'], 'rbd:vms/vm-0_vda');
      const caches = ['vda', 'vdb', 'vdd'].map((name) => domain.attributes[`disk.${name}.cache`]);
      assert.deepEqual(caches, ['writeback', 'none', 'writethrough']);
      const line = readFileSync(`/proc/${domain.record.pid}/cmdline`, 'utf8');
      assert.match(line, /"node-name":"disk-1-file"[^\0]*"cache":\{"direct":true/);
      assert.match(line, /"drive":"disk-3"[^\0]*"write-cache":"off"/);
    },
  );

  await t.test('V-130: the key is in no command line, no file of the driver, and no log', () => {
    const { secret } = cluster.pool;
    assert.ok(secret.length > 20);
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      for (const file of ['cmdline', 'environ']) {
        let text = '';
        try {
          text = readFileSync(`/proc/${pid}/${file}`, 'latin1');
        } catch {
          continue;
        }
        assert.ok(!text.includes(secret), `${file} of process ${pid}`);
      }
    }
    const { dir } = ground.paths();
    for (const name of readdirSync(dir)) {
      assert.ok(!readFileSync(`${dir}/${name}`, 'latin1').includes(secret), name);
    }
    assert.ok(!ground.lines.join('\n').includes(secret));
  });

  await t.test('V-51: the images of the VM are removed with it, by another process', async () => {
    await virtualizer[Symbol.asyncDispose]();
    await ground.virtualizer().destroyDomain('vm-0');
    assert.deepEqual(await images(), ['golden']);
  });

  await t.test('V-46 V-19: what can not be in the pool is named', async () => {
    const problemsOf = (change: Partial<DiskSpec>) =>
      ground
        .virtualizer()
        .problemsOf(ground.spec(0, { disks: [inPool(1, 'vda', change)] }), soon());
    const volume = (name: string) => ({ source: { kind: 'volume', volume: name } as const });
    assert.deepEqual(await problemsOf({ ...volume('golden'), chained: true }), [
      'disk[1].source.volume: a chained disk is a clone of a snapshot: write "image@snapshot"',
    ]);
    const [missing = ''] = await problemsOf(volume('none'));
    assert.match(
      missing,
      /^disk\[1\]\.source\.volume: rbd info: .*(No such file|not found|error opening)/,
    );
    const [small = ''] = await problemsOf({ ...volume('golden'), sizeBytes: 512 });
    assert.match(small, /^disk\[1\]\.size: 512 bytes are less than the source's \d+/);
    assert.deepEqual(await problemsOf({}), [
      'disk[1].size is required for a disk without a source',
    ]);
  });

  await t.test(
    'V-51 V-139: a cluster that does not answer fails the start within its deadline, and nothing is left once it answers',
    async () => {
      cluster.signal('SIGSTOP');
      try {
        const start = virtualizer.createDomain(
          ground.spec(0, { name: 'vm-1', disks: [inPool(1, 'vda', { sizeBytes: MiB })] }),
          // It is to be used up, whatever the load.
          { signal: AbortSignal.timeout(5000) },
        );
        await assert.rejects(start);
      } finally {
        cluster.signal('SIGCONT');
      }
      await ground.virtualizer().destroyDomain('vm-1');
      assert.deepEqual(await images(), ['golden']);
    },
  );
}

inOwnNetns(import.meta.url, ['ip'], () => {
  test('disks in a Ceph cluster', async (t) => {
    if (!canRunCeph(t)) return;
    await must('ip', 'link', 'set', 'lo', 'up');
    await using cluster = await CephCluster.start(tmpDir(t));
    await lifeOf(cluster, t);
  });
});
