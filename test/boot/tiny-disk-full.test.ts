import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { must } from '../support/guest.ts';
import { guestOrSkip, guestSpec, powerOff, told, until } from '../support/live-vm.ts';
import { inOwnNetns } from '../support/netns.ts';
import { eventually, soon, VmGround } from '../support/vm.ts';

// 40 MiB that can't be left out of the overlay, far behind what the image has.
const fill = `#!/bin/sh
dd if=/dev/urandom of=/dev/vda bs=1M seek=600 count=40 conv=fsync 2>/dev/null
echo "DD-DONE $?" > /dev/ttyS0
`;

inOwnNetns(import.meta.url, ['mount'], () => {
  test('V-104: a guest whose disk finds no room on the host waits, and goes on when there is some', async (t) => {
    const guest = await guestOrSkip(t, 'tiny');
    if (guest === undefined) return;
    await using ground = VmGround.open({ imagePaths: [dirname(guest.path)] });
    const { dataDir } = ground.options;
    mkdirSync(dataDir);
    await must('mount', '-t', 'tmpfs', '-o', 'size=16m,mode=711', 'tmpfs', dataDir);
    const pipes = ground.pipes();
    const log = ground.read(pipes.stdoutPath);
    const virtualizer = ground.virtualizer();
    const base = ground.spec(0).guest;
    const spec = guestSpec(ground, guest, {
      ...pipes,
      guest: { ...base, userData: { kind: 'inline', text: fill } },
    });
    const domain = await virtualizer.createDomain(spec, soon(60_000));
    await until(
      async () => domain.state,
      (state) => state === 'paused',
      90_000,
    );
    await eventually(() => ground.told().includes('Disk error'), 'the event');
    assert.doesNotMatch(log.text, /DD-DONE/);
    await must('mount', '-o', 'remount,size=128m', dataDir);
    await told(log, /DD-DONE 0/, 60_000);
    await eventually(() => domain.state === 'running', 'it goes on');
    assert.equal((await powerOff(virtualizer, domain))?.reason, 'guest-shutdown');
    await virtualizer.destroyDomain(domain.name);
    await must('umount', join(dataDir));
  });
});
