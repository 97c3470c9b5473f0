import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { VmSpec } from '#spec';
import type { Domain, QemuVirtualizer } from '#vm';
import { type Guest, type GuestName, guestImage } from '../../scripts/guests/images.ts';
import { diskOn } from './disks.ts';
import { virbr0 } from './networks.ts';
import { patient } from './patience.ts';
import { requireOrSkip } from './require.ts';
import { canRunVms, type PipeReader, VmGround } from './vm.ts';

/** The guest's disk, from the cache or built now; else the test is skipped with the reason. */
export async function guestOrSkip(t: TestContext, name: GuestName): Promise<Guest | undefined> {
  if (!canRunVms(t)) return undefined;
  try {
    return await guestImage(name);
  } catch (error) {
    requireOrSkip(t, false, String(error));
    return undefined;
  }
}

/** Of both families. */
export const network = { ...virbr0, address6: 'fd12:3456:789a::1/64' };

/** A client with the default network, of both families, that may use the guest's image. */
export function groundFor(guest: Guest): VmGround {
  return VmGround.open({ managedNetworks: [network], imagePaths: [dirname(guest.path)] });
}

/** What a job that runs this guest comes to. */
export function guestSpec(
  ground: VmGround,
  guest: Guest,
  changes: Omit<Partial<VmSpec>, 'disks'>,
): VmSpec {
  return ground.spec(0, {
    disks: [diskOn(guest.path, 1200)],
    firmware: 'auto',
    memoryMiB: guest.memoryMiB,
    ...changes,
  });
}

/** TCP and UDP, on every address of the host. */
export const port = (label: string, hostPort: number, guestPort: number) => ({
  label,
  hostIp: '',
  hostPort,
  guestPort,
});

/**
 * User data by which the tiny guest runs what it is sent: its web server gives the text it is posted to a shell.
 * Further lines run at boot.
 */
export const remoteShell = (...lines: readonly string[]): string => `#!/bin/sh
cat > /www/cgi-bin/run << 'RUN'
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
sh 2>&1
RUN
chmod 755 /www/cgi-bin/run
${lines.map((line) => `${line}\n`).join('')}`;

/** Runs a script in a tiny guest that has `remoteShell`, and gives what it printed. */
export async function runIn(address: string, script: string): Promise<string> {
  const answer = await fetch(`http://${address}/cgi-bin/run`, {
    method: 'POST',
    body: `${script}\n`,
    signal: AbortSignal.timeout(patient(30_000)),
  });
  assert.equal(answer.status, 200, `${script}: ${answer.status}`);
  return (await answer.text()).trim();
}

/** Waits for a word on the console; what the guest said until now is in the failure. */
export async function told(log: PipeReader, pattern: RegExp, ms: number): Promise<string> {
  const until = performance.now() + patient(ms);
  while (!pattern.test(log.text)) {
    assert.ok(
      performance.now() < until,
      `the guest did not say ${pattern} in time, but:\n${log.text.slice(-4000)}`,
    );
    await sleep(50);
  }
  return log.text;
}

/** Polls a question until the answer is the right one. */
export async function until<T>(
  ask: () => Promise<T>,
  isRight: (answer: T) => boolean,
  ms: number,
): Promise<T> {
  const end = performance.now() + patient(ms);
  for (;;) {
    const answer = await ask();
    if (isRight(answer)) return answer;
    assert.ok(performance.now() < end, `not in time, but: ${JSON.stringify(answer)}`);
    await sleep(100);
  }
}

/** Stops politely; how the VM ended. */
export async function powerOff(
  virtualizer: QemuVirtualizer,
  domain: Domain,
): Promise<Domain['exit']> {
  await virtualizer.stopDomain(domain.name, { graceMs: patient(30_000), immediately: false });
  return domain.exit;
}
