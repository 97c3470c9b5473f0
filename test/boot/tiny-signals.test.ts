import assert from 'node:assert/strict';
import { test } from 'node:test';
import { groundFor, guestOrSkip, guestSpec, told } from '../support/live-vm.ts';
import { soon } from '../support/vm.ts';

/** A line with the guest's clock, twice a second; what an NMI does to it is in its kernel's log. */
const script = `#!/bin/sh
echo 0 > /proc/sys/kernel/unknown_nmi_panic
echo 8 > /proc/sys/kernel/printk
# The agent sets no clock on a system without it.
printf '#!/bin/sh\n' > /sbin/hwclock
chmod 755 /sbin/hwclock
( while :; do echo "TICK $(date +%s)" > /dev/console; sleep 0.5; done ) &
`;

function ticks(text: string): readonly number[] {
  return [...text.matchAll(/TICK (\d+)/g)].map(([, seconds]) => Number(seconds));
}

test('V-94: signals pause, resume, interrupt and reset a guest', async (t) => {
  const guest = await guestOrSkip(t, 'tiny');
  if (guest === undefined) return;
  await using ground = groundFor(guest);
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const virtualizer = ground.virtualizer();
  const spec = guestSpec(ground, guest, {
    ...pipes,
    guest: { ...ground.spec(0).guest, userData: { kind: 'inline', text: script } },
  });
  const domain = await virtualizer.createDomain(spec, soon(60_000));
  await told(log, /TINY-READY[\s\S]*TICK|TICK[\s\S]*TINY-READY/, 120_000);
  const becomes = async (state: string): Promise<void> => {
    for (const until = performance.now() + 10_000; domain.state !== state; ) {
      assert.ok(performance.now() < until, `it is ${domain.state}, not ${state}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const act = (action: 'pause' | 'resume' | 'reset' | 'nmi') =>
    virtualizer.actOnDomain(domain.name, action, soon());

  await act('pause');
  await becomes('paused');
  const paused = ticks(log.text).length;
  const pausedAt = Date.now();
  await new Promise((resolve) => setTimeout(resolve, 4000));
  assert.ok(ticks(log.text).length <= paused + 1, 'a paused guest goes on');
  await act('resume');
  await becomes('running');
  // Its agent has set the clock, which stood still for four seconds.
  for (const until = performance.now() + 20_000; ; ) {
    const last = ticks(log.text).at(-1) ?? 0;
    if (last * 1000 >= pausedAt + 3000 && last * 1000 >= Date.now() - 3000) break;
    assert.ok(performance.now() < until, `its clock is ${last}, the host's ${Date.now() / 1000}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }

  await act('nmi');
  await told(log, /NMI/, 20_000);

  const boots = (): number => log.text.match(/TINY-READY/g)?.length ?? 0;
  const before = boots();
  await act('reset');
  for (const until = performance.now() + 120_000; boots() <= before; ) {
    assert.ok(performance.now() < until, 'it does not boot again');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.equal(domain.state, 'running');
  await virtualizer.destroyDomain(domain.name);
  await assert.rejects(act('pause'), /there is no VM/);
});
