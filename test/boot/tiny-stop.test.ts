import assert from 'node:assert/strict';
import { test } from 'node:test';
import { groundFor, guestOrSkip, guestSpec, powerOff, told } from '../support/live-vm.ts';
import { soon } from '../support/vm.ts';

const agents: Readonly<Record<string, string>> = {
  hangs: 'kill -STOP $(cat /run/qga.pid)',
  refuses: 'rm /sbin/shutdown',
};

for (const [what, script] of Object.entries(agents)) {
  test(`V-87: where the agent in the guest ${what}, the button is pressed`, async (t) => {
    const guest = await guestOrSkip(t, 'tiny');
    if (guest === undefined) return;
    await using ground = groundFor(guest);
    const pipes = ground.pipes();
    const log = ground.read(pipes.stdoutPath);
    const virtualizer = ground.virtualizer();
    const spec = guestSpec(ground, guest, {
      ...pipes,
      guest: {
        ...ground.spec(0).guest,
        userData: { kind: 'inline', text: `#!/bin/sh\n${script}\n` },
      },
    });
    const domain = await virtualizer.createDomain(spec, soon(60_000));
    await told(log, /TINY-READY/, 120_000);
    const exit = await powerOff(virtualizer, domain);
    assert.equal(exit?.reason, 'guest-shutdown');
    assert.ok(ground.told().includes('ACPI power button pressed'));
  });
}
