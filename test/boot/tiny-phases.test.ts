import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { groundFor, guestOrSkip, guestSpec, told } from '../support/live-vm.ts';
import { eventually, soon } from '../support/vm.ts';

/** The kernel's first lines, which this guest keeps from its console, and what cloud-init leaves when it has finished. */
const script = `#!/bin/sh
dmesg | head -n 3
mkdir /run/cloud-init
echo '{"v1": {}}' > /run/cloud-init/status.json
echo '{"v1": {"datasource": "DataSourceNoCloud", "errors": ["it broke"]}}' > /run/cloud-init/result.json
`;
const nics = [{ kind: 'bridge', bridge: 'virbr0', ports: [] }] as const;

test('V-104: the phases of each boot of a guest are events, also after it was reset', async (t) => {
  const guest = await guestOrSkip(t, 'tiny');
  if (guest === undefined) return;
  await using ground = groundFor(guest);
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const virtualizer = ground.virtualizer();
  const spec = guestSpec(ground, guest, {
    ...pipes,
    nics,
    guest: { ...ground.spec(0).guest, userData: { kind: 'inline', text: script } },
  });
  const domain = await virtualizer.createDomain(spec, soon(60_000));
  const count = (message: RegExp): number =>
    ground.told().filter((event) => message.test(event)).length;
  const phases = [
    /^Guest's kernel has started$/,
    /^Guest agent is connected$/,
    /^Guest reports the address 192\.168\.122\.\d+ \(eth0\)$/,
    /^cloud-init has finished with errors: it broke$/,
  ];
  for (const phase of phases) {
    await eventually(() => count(phase) === 1, String(phase), 120_000);
  }
  // Of one message within ten seconds only the first is an event: the first boots may come too soon.
  for (let boots = 2; !phases.every((phase) => count(phase) > 1); boots += 1) {
    assert.ok(boots < 10, `of no later boot all phases are there: ${ground.told().join('; ')}`);
    await told(log, new RegExp(`(TINY-READY[^]*){${boots - 1}}`), 120_000);
    await virtualizer.actOnDomain(domain.name, 'reset', soon());
    await told(log, new RegExp(`(TINY-READY[^]*){${boots}}`), 120_000);
    const all = (): boolean => phases.every((phase) => count(phase) > 1);
    // Those that are no events do not come later.
    for (const end = performance.now() + 20_000; !all() && performance.now() < end; )
      await sleep(50);
  }
  await virtualizer.destroyDomain(domain.name);
});
