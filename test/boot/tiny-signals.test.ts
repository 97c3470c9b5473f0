import assert from 'node:assert/strict';
import { test } from 'node:test';
import { execIn, runCommand, sh } from '../support/exec.ts';
import { groundFor, guestOrSkip, guestSpec, told, until } from '../support/live-vm.ts';
import { eventually, soon } from '../support/vm.ts';

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

/** Returns once nothing was counted for so long: what a guest wrote before it was paused is on its way meanwhile. */
async function isSilent(count: () => number, ms: number): Promise<void> {
  let last = { count: count(), at: performance.now() };
  const silentMs = async (): Promise<number> => {
    if (count() !== last.count) last = { count: count(), at: performance.now() };
    return performance.now() - last.at;
  };
  await until(silentMs, (it) => it >= ms, 20_000);
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
  const becomes = (state: string): Promise<void> =>
    eventually(() => domain.state === state, `the state ${state}`);
  const act = (action: 'pause' | 'resume' | 'reset' | 'nmi') =>
    virtualizer.actOnDomain(domain.name, action, soon());

  const left = await execIn(domain, ['sleep', '4321']);
  await act('pause');
  await becomes('paused');
  left[Symbol.dispose]();
  await assert.rejects(execIn(domain, ['true']), /in a VM that is paused: SIGCONT lets it go on/);
  const pausedAt = Date.now();
  await isSilent(() => ticks(log.text).length, 4000);
  await act('resume');
  await becomes('running');
  // Its agent has set the clock, which stood still for four seconds.
  const behindMs = async (): Promise<number> => Date.now() - (ticks(log.text).at(-1) ?? 0) * 1000;
  await until(behindMs, (ms) => ms <= 3000 && Date.now() - ms >= pausedAt + 3000, 20_000);

  // What could not be ended while it was paused.
  const count = () => runCommand(domain, sh('ps -o args | grep -c "[s]leep 4321"'));
  await until(count, ({ stdout }) => stdout === '0\n', 30_000);

  await act('nmi');
  await told(log, /NMI/, 20_000);

  const boots = (): number => log.text.match(/TINY-READY/g)?.length ?? 0;
  const before = boots();
  const lost = await execIn(domain, ['sleep', '1000']);
  await act('reset');
  for await (const _ of lost.output);
  await assert.rejects(lost.exit(soon()), /the command was lost: the guest was reset/);
  assert.equal(boots(), before);
  await eventually(() => boots() > before, 'the next boot', 120_000);
  assert.equal(domain.state, 'running');
  await virtualizer.destroyDomain(domain.name);
  await assert.rejects(act('pause'), /there is no VM/);
});
