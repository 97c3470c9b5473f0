import assert from 'node:assert/strict';
import { chmodSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type DiskPlace, type DiskSpec, primaryDisk } from '#spec';
import { messageOf } from '../../src/vm/error.ts';
import { must } from '../support/guest.ts';
import { groundFor, guestOrSkip, guestSpec, told } from '../support/live-vm.ts';
import { NbdServer } from '../support/nbd-server.ts';
import { inOwnNetns } from '../support/netns.ts';
import { silentNbd } from '../support/silent-nbd.ts';
import { tmpDir } from '../support/tmp.ts';
import { canRunVms, eventually, soon, VmGround } from '../support/vm.ts';

type Server = Extract<DiskPlace, { kind: 'nbd' }>['server'];

function nbdDisk(server: Server, name = 'data'): DiskSpec {
  const { source: _, ...disk } = primaryDisk({ image: '', thin: false });
  const place = { kind: 'nbd', server, export: name } as const;
  return { ...disk, block: 2, name: 'vdb', primary: false, place };
}

/** Writes a number to the disk again and again, and reports each one that is on the disk. */
const script = `#!/bin/sh
(
  i=0
  while :; do
    i=$((i + 1))
    printf '%08d' $i | dd of=/dev/vdb conv=fsync 2> /dev/null || echo "FAILED $i" > /dev/console
    echo "WROTE $i [$(head -c 8 /dev/vdb)]" > /dev/console
    sleep 0.2
  done
) &
`;

function wrote(text: string): number {
  return Number([...text.matchAll(/WROTE (\d+) \[0*\1\]/g)].at(-1)?.[1] ?? 0);
}

/** What a start with this disk fails with. */
async function startError(ground: VmGround, disk: DiskSpec): Promise<string> {
  const spec = ground.spec(0);
  const disks = [...spec.disks, disk];
  const virtualizer = ground.virtualizer();
  const started = virtualizer.createDomain({ ...spec, disks }, soon(60_000));
  return await started.then(String, messageOf);
}

inOwnNetns(import.meta.url, ['ip', 'qemu-nbd'], () => {
  for (const [kind, settings] of [
    ['tcp', { cache: 'directsync', throttle: { iops: 200 } }],
    ['unix', { cache: 'writethrough', discard: false }],
  ] as const) {
    test(`V-47 V-53: a disk of an NBD server over ${kind} waits for the server, and loses nothing`, async (t) => {
      const guest = await guestOrSkip(t, 'tiny');
      if (guest === undefined) return;
      await must('ip', 'link', 'set', 'lo', 'up');
      await using ground = groundFor(guest);
      const dir = tmpDir(t);
      const file = join(dir, 'data');
      writeFileSync(file, '');
      truncateSync(file, 8 * 2 ** 20);
      chmodSync(dir, 0o755);
      const path = join(dir, 'nbd.sock');
      const tcp = { host: '127.0.0.1', port: 10_809 };
      await using server = await NbdServer.start(file, kind === 'tcp' ? tcp : { path });
      if (kind === 'unix') chmodSync(path, 0o777);
      const address = kind === 'tcp' ? { host: 'localhost', port: 10_809 } : { socket: path };
      const disk = { ...nbdDisk(address), ...settings };
      const pipes = ground.pipes();
      const log = ground.read(pipes.stdoutPath);
      const base = guestSpec(ground, guest, {});
      const spec = ground.spec(0, {
        ...base,
        ...pipes,
        disks: [...base.disks, disk],
        guest: { ...base.guest, userData: { kind: 'inline', text: script } },
      });
      const starter = await ground.starter(spec);
      const record = await starter.create();
      const line = readFileSync(`/proc/${record.pid}/cmdline`, 'utf8');
      assert.match(line, /"drive":"disk-1[^}]*"write-cache":"off"/);
      await told(log, /WROTE 3 /, 120_000);
      await server.kill();
      // The guest waits for the server, and then for the process that resumes it.
      await starter.kill();
      const virtualizer = ground.virtualizer();
      const domain = await virtualizer.recoverDomain(record, spec, soon());
      assert.equal(domain?.attributes['disk.vdb.cache'], settings.cache);
      await eventually(() => domain.state === 'paused', 'it waits', 60_000);
      const before = wrote(log.text);
      await server.begin();
      if (kind === 'unix') chmodSync(path, 0o777);
      await told(log, new RegExp(`WROTE ${before + 5} \\[0*${before + 5}\\]`), 60_000);
      assert.doesNotMatch(log.text, /FAILED|I\/O error/);
      await virtualizer.destroyDomain(domain.name);
      assert.deepEqual(await ground.leftovers(), []);
      assert.ok(Number(readFileSync(file, 'latin1').slice(0, 8)) >= before + 5);
    });
  }

  test('V-47 V-19: a server that can not be used is a problem of the key', async (t) => {
    if (!canRunVms(t)) return;
    await must('ip', 'link', 'set', 'lo', 'up');
    await using ground = VmGround.open();
    const closed = join(tmpDir(t), 'closed.sock');
    const file = join(tmpDir(t), 'file');
    writeFileSync(file, '');
    truncateSync(file, 2 ** 20);
    await using _ = await NbdServer.start(file, { path: closed });
    chmodSync(closed, 0o700);
    const open = join(tmpDir(t), 'open.sock');
    await using _open = await NbdServer.start(file, { path: open });
    chmodSync(open, 0o777);
    const silent = startError(ground, nbdDisk({ socket: await silentNbd(t) }));
    const servers: readonly (readonly [Server, RegExp, string?])[] = [
      [{ host: '127.0.0.1', port: 1 }, /ECONNREFUSED/],
      [{ host: 'none.invalid', port: 1 }, /none\.invalid/],
      [{ socket: '/none' }, /there is no socket \/none$/],
      [{ socket: file }, /there is no socket /],
      [{ socket: closed }, /a VM is a user of its own .*: chmod o\+w /],
      [{ socket: open }, /asked for the export "other", it does not have it/, 'other'],
    ];
    for (const [server, expected, name] of servers) {
      const spec = ground.spec(0);
      const disks = [...spec.disks, nbdDisk(server, name)];
      const problems = await ground.virtualizer().problemsOf({ ...spec, disks }, soon());
      assert.equal(problems.length, 1, problems.join('\n'));
      assert.match(problems[0] ?? '', /^disk\[2\]\.source\.nbd: the NBD server can't be used: /);
      assert.match(problems[0] ?? '', expected);
    }
    assert.match(
      await silent,
      /^disk\[2\]\.source\.nbd: QEMU has waited 10 s for an answer of its server$/,
    );
    assert.deepEqual(await ground.leftovers(), []);
  });
});
