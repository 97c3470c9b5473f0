import assert from 'node:assert/strict';
import { statSync, writeFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { identify } from '#host';
import type { VmSpec } from '#spec';
import { diskOn } from '../support/disks.ts';
import { until } from '../support/live-vm.ts';
import { canRunVms, eventually, soon, VmGround } from '../support/vm.ts';

const KiB = 1024;
const endedByUs = /^(host-qmp-quit|host-signal|killed)$/;

/**
 * A guest of eight bytes that makes QEMU write events as fast as it can: mov $0x505, %dx; mov $2, %al; again: out %al,
 * %dx; jmp again. Port 0x505 is pvpanic's, and 2 says that a crash kernel was loaded.
 */
function eventFlood(ground: VmGround): Partial<VmSpec> {
  const disk = Buffer.alloc(KiB * KiB);
  Buffer.from('ba0505b002eeebfd', 'hex').copy(disk);
  disk.writeUInt16LE(0xaa55, 510);
  const image = join(ground.taskDir, 'flood.img');
  writeFileSync(image, disk);
  return { disks: [diskOn(image, 1)] };
}

const used = (path: string): number => statSync(path).blocks * 512;

test('V-98: a guest that makes QEMU write events without end fills no disk', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(ground.spec(0, eventFlood(ground)), soon());
  const { journal } = ground.paths();
  await eventually(() => statSync(journal).size > 2048 * KiB, '2 MiB of events', 60_000);
  // A busy plugin is behind at times.
  await eventually(() => used(journal) <= 512 * KiB, 'no more is kept');
  // It has no power button, and yet its end is known. Killed: with the host busy as well, 300 ms are too short for QEMU.
  await virtualizer.stopDomain(domain.name, { graceMs: 3000, immediately: false });
  assert.match(domain.exit?.reason ?? '', endedByUs);
});

test('V-98 V-89: nor while no plugin is there; what a later one does is known all the same', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const spec = ground.spec(0, eventFlood(ground));
  const starter = await ground.starter(spec);
  const record = await starter.create();
  await starter.kill();
  const { run } = ground.paths();
  const free = async (): Promise<number> => {
    const { bfree, bsize } = await statfs(run);
    return bfree * bsize;
  };
  // All that the VM may take.
  await until(free, (bytes) => bytes === 0, 30_000);
  assert.ok(identify(record.pid) !== undefined, 'and the guest goes on');
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.recoverDomain(record, spec, soon());
  await virtualizer.stopDomain(spec.name, { graceMs: 3000, immediately: false });
  assert.match(domain?.exit?.reason ?? '', endedByUs);
});

test('V-98 V-89: a console that has filled everything leaves room for the word of the end', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const spec = ground.spec(4);
  const starter = await ground.starter(spec);
  const record = await starter.create();
  await starter.kill();
  const { run } = ground.paths();
  const full = async (): Promise<boolean> => (await statfs(run)).bfree === 0;
  await until(full, (it) => it, 30_000);
  // By hand, with no plugin: it is QEMU alone that writes the reason down.
  process.kill(record.pid, 'SIGTERM');
  await eventually(() => identify(record.pid) === undefined, 'the end of QEMU');
  const domain = await ground.virtualizer().recoverDomain(record, spec, soon());
  assert.equal((await domain?.wait(soon()))?.reason, 'host-signal');
});
