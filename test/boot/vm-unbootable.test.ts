import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeIso } from '#cloudinit';
import { diskOn } from '../support/disks.ts';
import { told } from '../support/live-vm.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

test('V-104: a disk that no firmware boots from is an event, and SeaBIOS reports it on the console', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const image = join(ground.taskDir, 'data.raw');
  writeFileSync(image, Buffer.alloc(1024 * 1024, 'not a boot sector '));
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const virtualizer = ground.virtualizer();
  const spec = ground.spec(0, { ...pipes, disks: [diskOn(image, 1)] });
  const domain = await virtualizer.createDomain(spec, soon(60_000));
  await told(log, /SeaBIOS \(version.*Booting from Hard Disk.*No bootable device/s, 60_000);
  await virtualizer.destroyDomain(domain.name);
  const events = ground.told();
  const missing = 'No boot sector and no EFI partition was found on the boot disk vda';
  assert.ok(events.includes(missing), events.join('\n'));
  assert.ok(events.includes("Guest's firmware has started"), events.join('\n'));
});

test('a CD image in the place of a disk is refused with the key and what to write', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const image = join(ground.taskDir, 'installer.iso');
  writeFileSync(image, writeIso(new Map(), { label: 'installer' }));
  const spec = ground.spec(0, { disks: [diskOn(image, 1)] });
  await assert.rejects(ground.virtualizer().createDomain(spec, soon()), {
    code: 'job',
    message:
      /^image: .*\/installer\.iso is a CD image .* only: write a disk block with kind = "cdrom"/,
  });
});
