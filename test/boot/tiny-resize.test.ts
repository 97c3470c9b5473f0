import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type DiskSpec, primaryDisk } from '#spec';
import { askVm } from '#vm';
import { groundFor, guestOrSkip, guestSpec, powerOff, told, until } from '../support/live-vm.ts';
import { NbdServer } from '../support/nbd-server.ts';
import { tmpDir } from '../support/tmp.ts';
import { eventually, soon, type VmGround } from '../support/vm.ts';

const MiB = 1024 * 1024;
const throttle = { iops: 5000, burstSeconds: 1 };

/** The sizes of all disks in MiB, twice a second, that of the SCSI disk after a rescan, and whether the last sector of some can be written. */
const script = `#!/bin/sh
( while :; do
    sizes=
    echo 1 > /sys/block/sda/device/rescan
    for disk in vda vdb vdc vdd sda vde vdf; do sizes="$sizes $(($(cat /sys/block/$disk/size) / 2048))"; done
    for disk in vdc vde vdf; do
      last=$(($(cat /sys/block/$disk/size) - 1))
      dd if=/dev/zero of=/dev/$disk bs=512 seek=$last count=1 conv=fsync 2> /dev/null || sizes="$sizes FAILED"
    done
    echo "SIZES$sizes." > /dev/console
    sleep 0.5
  done ) &
`;

function more(block: number, name: string, changes: Partial<DiskSpec>): DiskSpec {
  const { source: _, ...disk } = primaryDisk({ image: '', thin: false });
  return { ...disk, block, name, primary: false, ...changes };
}

function resize(ground: VmGround, disk: string, mib: number): Promise<string> {
  const { dataDir } = ground.options;
  const request = { command: 'resize', disk, bytes: mib * MiB } as const;
  const task = { alloc: '6b8e3a5e', task: 'task' };
  return askVm({ dataDir, task, request, onProgress: () => {} }, soon());
}

/** A block device of the host that can grow, and what it is made of. */
function loopDevice(
  t: TestContext,
  mib: number,
): { readonly device: string; readonly file: string } {
  const file = join(tmpDir(t), 'device');
  writeFileSync(file, '');
  truncateSync(file, mib * MiB);
  const device = execFileSync('losetup', ['--find', '--show', file], { encoding: 'utf8' }).trim();
  t.after(() => execFileSync('losetup', ['--detach', device]));
  return { device, file };
}

test('V-54: disks grow while the guest runs, for an adopted VM and the next start as well', async (t) => {
  const guest = await guestOrSkip(t, 'tiny');
  if (guest === undefined) return;
  await using ground = groundFor(guest);
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const base = guestSpec(ground, guest, {});
  mkdirSync(join(ground.taskDir, 'local'), { recursive: true });
  const small = join(ground.taskDir, 'local/small.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', small, '4M']);
  const inVolume = { kind: 'volume', hostPath: tmpDir(t), readOnly: false } as const;
  const source = { kind: 'image', image: 'local/small.qcow2' } as const;
  const kept = more(2, 'vdb', { place: inVolume, sizeBytes: 8 * MiB, throttle });
  const loop = loopDevice(t, 5);
  const onDevice = { kind: 'volume', hostPath: loop.device, readOnly: false } as const;
  const served = join(tmpDir(t), 'served');
  writeFileSync(served, '');
  truncateSync(served, 4 * MiB);
  const socket = join(tmpDir(t), 'nbd.sock');
  await using server = await NbdServer.start(served, { path: socket });
  chmodSync(dirname(socket), 0o755);
  chmodSync(socket, 0o777);
  const onServer = { kind: 'nbd', server: { socket }, export: 'data' } as const;
  const spec = ground.spec(0, {
    ...base,
    ...pipes,
    disks: [
      ...base.disks,
      kept,
      more(3, 'vdc', { format: 'raw', sizeBytes: 8 * MiB }),
      more(4, 'vdd', { source, chained: false, sizeBytes: 6 * MiB, throttle }),
      more(5, 'sda', { bus: 'scsi', format: 'raw', sizeBytes: 7 * MiB, sparse: false }),
      more(6, 'vde', { place: onDevice }),
      more(7, 'vdf', { place: onServer, cache: 'none', throttle }),
    ],
    guest: { ...base.guest, userData: { kind: 'inline', text: script } },
  });
  const first = ground.virtualizer();
  const { record, attributes } = await first.createDomain(spec, soon(60_000));
  const allocated = () => statSync(attributes['disk.sda.path'] ?? '').blocks * 512;
  assert.ok(allocated() >= 7 * MiB);
  await told(log, /SIZES 1200 8 8 6 7 5 4\./, 120_000);

  assert.equal(await resize(ground, 'vda', 1300), `vda has ${1300 * MiB} bytes now`);
  assert.equal(await resize(ground, 'vdb', 16), `vdb has ${16 * MiB} bytes now`);
  assert.equal(await resize(ground, 'vdc', 2048), `vdc has ${2048 * MiB} bytes now`);
  assert.equal(await resize(ground, 'vdd', 9), `vdd has ${9 * MiB} bytes now`);
  assert.equal(await resize(ground, 'sda', 10), `sda has ${10 * MiB} bytes now`);
  assert.ok(allocated() >= 10 * MiB, `${allocated()} bytes are allocated`);
  await told(log, /SIZES 1300 16 2048 9 10 5 4\./, 60_000);
  await eventually(() => ground.told().includes('The disk was resized'), 'the event');
  assert.equal(await resize(ground, 'vdb', 16), `vdb has ${16 * MiB} bytes already`);
  await assert.rejects(resize(ground, 'vdb', 8), /can't become smaller/);
  await assert.rejects(resize(ground, 'vdz', 8), /no disk vdz; it has vda, vdb, vdc, vdd, sda/);
  await assert.rejects(resize(ground, 'vdb', 2 ** 31), /raise limits\.max_disk_mb of the plugin/);

  await assert.rejects(
    resize(ground, 'vde', 11),
    /did not resize vde: .*; make the device larger on the host/,
  );
  await assert.rejects(
    resize(ground, 'vdf', 12),
    /did not resize vdf: .*; QEMU knows the size .* when it connected/,
  );
  truncateSync(loop.file, 11 * MiB);
  execFileSync('losetup', ['--set-capacity', loop.device]);
  // The device's own size is what the guest sees.
  assert.equal(await resize(ground, 'vde', 10), `vde has ${11 * MiB} bytes now`);
  await server.kill();
  await assert.rejects(resize(ground, 'vdf', 12), /the NBD server does not answer: .*ECONNREFUSED/);
  truncateSync(served, 12 * MiB);
  await server.begin();
  chmodSync(socket, 0o777);
  // After ten seconds without a server, on a host under load, the first attempt only begins to connect.
  const vdf = () => resize(ground, 'vdf', 12).catch(String);
  await until(vdf, (answer) => answer === `vdf has ${12 * MiB} bytes now`, 60_000);
  await told(log, /SIZES 1300 16 2048 9 10 11 12\./, 60_000);

  await first[Symbol.asyncDispose]();
  const second = ground.virtualizer();
  const adopted = await second.recoverDomain(record, spec, soon());
  assert.ok(adopted !== undefined);
  assert.equal(adopted.attributes['disk.vdb.size'], String(16 * MiB));
  await resize(ground, 'vdb', 20);
  assert.equal(adopted.attributes['disk.vdb.size'], String(20 * MiB));
  await resize(ground, 'vdc', 4096);
  await told(log, /SIZES 1300 20 4096 9 10 11 12\./, 60_000);
  assert.doesNotMatch(log.text, /FAILED/);
  await powerOff(second, adopted);
  await assert.rejects(resize(ground, 'vdb', 24), /no plugin manages the VM/);

  await second.destroyDomain('vm-0');
  await assert.rejects(resize(ground, 'vdb', 24), /there is no VM of 6b8e3a5e\/task/);
  const again = await second.createDomain(spec, soon(60_000));
  assert.equal(again.attributes['disk.vdb.size'], String(20 * MiB));
  assert.match(ground.told().join('\n'), /The disk in the volume keeps its size/);
});
