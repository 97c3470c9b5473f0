import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type DiskSpec, primaryDisk } from '#spec';
import { askVm } from '#vm';
import { must } from '../support/guest.ts';
import { groundFor, guestOrSkip, guestSpec, powerOff, told, until } from '../support/live-vm.ts';
import { command, inOwnNetns } from '../support/netns.ts';
import { openFiles } from '../support/open-files.ts';
import { tmpDir } from '../support/tmp.ts';
import { eventually, soon, type VmGround } from '../support/vm.ts';

const MiB = 1024 * 1024;
const line = '0123456789abcde\n';

/** Fills the second disk but for its end, and goes on to write a number that counts up into its first sector. */
const script = `#!/bin/sh
yes 0123456789abcde | head -c ${24 * MiB} | dd of=/dev/vdb bs=1M conv=fsync 2> /dev/null
( i=0
  while :; do
    i=$((i + 1))
    printf '%08d' $i | dd of=/dev/vdb conv=fsync 2> /dev/null
    [ $i != 5 ] || echo FILLED > /dev/console
    sleep 0.1
  done ) &
`;

interface Asked {
  readonly speed?: number;
  readonly onProgress?: (text: string) => void;
  readonly signal?: AbortSignal;
}

function backUp(ground: VmGround, path: string, { onProgress, signal, ...limit }: Asked = {}) {
  const { dataDir } = ground.options;
  const request = { command: 'backup', disk: 'vdb', path, ...limit } as const;
  const asked = { dataDir, task: { alloc: '6b8e3a5e', task: 'task' }, request };
  const waiting = signal === undefined ? soon(30_000) : { signal };
  return askVm({ ...asked, onProgress: onProgress ?? (() => {}) }, waiting);
}

/** A backup that takes minutes. */
function slowly(ground: VmGround, path: string, signal?: AbortSignal) {
  const begun = Promise.withResolvers<void>();
  const onProgress = (): void => begun.resolve();
  const aborts = signal === undefined ? {} : { signal };
  const backup = backUp(ground, path, { speed: 65_536, onProgress, ...aborts });
  backup.catch(begun.reject);
  return { backup, begun: begun.promise };
}

/** The disk as the guest had written it, with a number at its beginning. */
function assertContent(path: string): void {
  const raw = `${path}.raw`;
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, raw]);
  const content = readFileSync(raw);
  assert.equal(content.length, 32 * MiB);
  assert.match(content.toString('latin1', 0, 8), /^\d{8}$/);
  const written = Buffer.alloc(24 * MiB, line);
  content.copy(written, 0, 0, 8);
  assert.ok(content.subarray(0, 24 * MiB).equals(written), 'what the guest wrote');
  assert.ok(
    content.subarray(24 * MiB).every((byte) => byte === 0),
    'what it did not',
  );
}

inOwnNetns(import.meta.url, ['mount', 'qemu-img'], () => {
  test('V-55: a disk is backed up while the guest writes to it, or nothing is left of the backup', async (t) => {
    const guest = await guestOrSkip(t, 'tiny');
    if (guest === undefined) return;
    await using ground = groundFor(guest);
    const pipes = ground.pipes();
    const log = ground.read(pipes.stdoutPath);
    const base = guestSpec(ground, guest, {});
    const { source: _, ...disk } = primaryDisk({ image: '', thin: false });
    const second: DiskSpec = {
      ...disk,
      block: 2,
      name: 'vdb',
      primary: false,
      sizeBytes: 32 * MiB,
    };
    const spec = ground.spec(0, {
      ...base,
      ...pipes,
      disks: [...base.disks, second],
      guest: { ...base.guest, userData: { kind: 'inline', text: script } },
    });
    const starter = await ground.starter(spec);
    const record = await starter.create();
    await told(log, /FILLED[\s\S]*TINY-READY|TINY-READY[\s\S]*FILLED/, 120_000);
    const dir = tmpDir(t);
    const left = (): readonly string[] => readdirSync(dir);
    const nothingLeft = () =>
      until(
        async () => left().length,
        (count) => count === 0,
        20_000,
      );

    await t.test('it has what the guest had written at one moment', async () => {
      const path = join(tmpDir(t), 'vdb.qcow2');
      assert.match(await backUp(ground, path), /^vdb was backed up to .*vdb\.qcow2, /);
      assertContent(path);
      await assert.rejects(backUp(ground, path), /vdb\.qcow2 exists already/);
      const link = join(tmpDir(t), 'link');
      symlinkSync(ground.options.dataDir, link);
      for (const own of [ground.options.dataDir, join(ground.options.dataDir, 'vms'), link]) {
        const inside = backUp(ground, join(own, 'x.qcow2'));
        await assert.rejects(inside, /which is the driver's own: write it elsewhere/);
      }
      await assert.rejects(backUp(ground, join(dir, 'none/x')), /there is no directory/);
    });

    await t.test('a full file system ends it', async () => {
      const full = join(dir, 'full');
      mkdirSync(full);
      await must('mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', full);
      await assert.rejects(backUp(ground, join(full, 'vdb.qcow2')), /No space left on device/);
      assert.deepEqual(readdirSync(full), []);
      // The file is closed in a thread.
      await until(
        () => command('umount', full),
        ({ code }) => code === 0,
        10_000,
      );
      execFileSync('rmdir', [full]);
    });

    await t.test('an operator who hangs up cancels it', async () => {
      const hangUp = new AbortController();
      const { backup, begun } = slowly(ground, join(dir, 'vdb.qcow2'), hangUp.signal);
      await begun;
      assert.deepEqual(left(), ['.vdb.qcow2.new']);
      hangUp.abort();
      await assert.rejects(backup, { name: 'AbortError' });
      await nothingLeft();
    });

    const virtualizer = ground.virtualizer();
    await t.test('the process that adopts the VM ends it', async () => {
      const { backup, begun } = slowly(ground, join(dir, 'vdb.qcow2'));
      await begun;
      assert.deepEqual(left(), ['.vdb.qcow2.new']);
      await starter.kill();
      await assert.rejects(backup, /the plugin ended before it was done/);
      assert.deepEqual(left(), ['.vdb.qcow2.new']);
      // A QEMU that does not answer in time is adopted all the same, and asked later.
      process.kill(record.pid, 'SIGSTOP');
      await virtualizer.recoverDomain(record, spec, soon());
      process.kill(record.pid, 'SIGCONT');
      await nothingLeft();
      const held = (): readonly string[] =>
        openFiles(record.pid).filter((path) => path.includes('vdb.qcow2'));
      await eventually(() => held().length === 0, 'QEMU has closed the file');
      const path = join(tmpDir(t), 'vdb.qcow2');
      await backUp(ground, path);
      assertContent(path);
    });

    await t.test('a stop of the VM ends it', async () => {
      const { backup, begun } = slowly(ground, join(dir, 'vdb.qcow2'));
      await begun;
      assert.deepEqual(left(), ['.vdb.qcow2.new']);
      const domain = virtualizer.getDomain('vm-0');
      assert.ok(domain !== undefined);
      assert.equal((await powerOff(virtualizer, domain))?.reason, 'guest-shutdown');
      await assert.rejects(backup, /the VM stops/);
      await nothingLeft();
    });
  });
});
