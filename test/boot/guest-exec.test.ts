import assert from 'node:assert/strict';
import { test } from 'node:test';
import { execIn, runCommand, sh } from '../support/exec.ts';
import { commandsWork, exitCodes } from '../support/guest-commands.ts';
import { groundFor, guestOrSkip, guestSpec, powerOff, told } from '../support/live-vm.ts';
import { openFiles } from '../support/open-files.ts';
import { heldUntilPrinted, workAtTerminal } from '../support/terminal.ts';
import { eventually, soon } from '../support/vm.ts';

const addWorker = `#!/bin/sh
echo "worker:x:1000:1000::/home/worker:/bin/sh" >> /etc/passwd
echo "worker:x:1000:" >> /etc/group
status.sh
`;

test('commands in a guest with an agent', async (t) => {
  const guest = await guestOrSkip(t, 'tiny');
  if (guest === undefined) return;
  await using ground = groundFor(guest);
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(guestSpec(ground, guest, pipes), soon(60_000));

  await t.test('V-95: before the agent runs, the error names what is missing', async () => {
    await assert.rejects(execIn(domain, ['true']), {
      name: 'VmError',
      message: /guest agent is not connected: install qemu-guest-agent/,
      recoverable: true,
    });
  });
  await told(log, /TINY-READY/, 120_000);

  await t.test(
    'P-32 P-33 V-95: by the agent as by ssh: streams, exit codes, 100 MiB and back, 500 in turn, eight at once, a time limit, four terminals',
    async (t) => {
      await commandsWork(t, domain, { terminal: /\/dev\/hvc\d/, together: true });
    },
  );

  await t.test('V-95: a terminal shows all, however late the plugin reads', async () => {
    const script = 'seq 1000; echo ALL-SHOWN >/dev/ttyS0';
    using command = await execIn(domain, sh(script), { terminal: true });
    let shown = '';
    for await (const { data } of command.output) {
      if (shown === '') heldUntilPrinted(/ALL-SHOWN/, ground.paths().console);
      shown += Buffer.from(data).toString('latin1');
    }
    const lines = Array.from({ length: 1000 }, (_, index) => `${index + 1}\r\n`);
    assert.equal(shown, lines.join(''));
  });

  await t.test('an exec in progress does not delay a stop', async () => {
    using sleeper = await execIn(domain, ['sleep', '1000']);
    const begun = performance.now();
    const exit = await powerOff(virtualizer, domain);
    t.diagnostic(`stop: ${Math.round(performance.now() - begun)} ms`);
    assert.equal(exit?.reason, 'guest-shutdown');
    for await (const _ of sleeper.output);
    await assert.rejects(sleeper.exit(soon()), { name: 'VmError' });
    await assert.rejects(execIn(domain, ['true']), /no command can be run in a VM that is exited/);
  });
});

test('P-41: a plugin that was killed leaves no command in the guest, and the next can run some, as the user of the job', async (t) => {
  const guest = await guestOrSkip(t, 'tiny');
  if (guest === undefined) return;
  await using ground = groundFor(guest);
  const logs = ground.pipes();
  const log = ground.read(logs.stdoutPath);
  const spec = guestSpec(ground, guest, {
    ...logs,
    exec: { user: 'worker' },
    guest: { ...ground.spec(0).guest, userData: { kind: 'inline', text: addWorker } },
  });
  const starter = await ground.starter(spec);
  const known = await starter.create();
  await told(log, /TINY-READY/, 120_000);
  await starter.exec(['sleep', '1234'], ['sh', '-c', 'sleep 1234 & wait']);
  await starter.exec(['sh', '-c', 'trap "" HUP; while :; do sleep 1234; done']);
  const pipes = (): number =>
    openFiles(known.pid).filter((path) => path.startsWith('pipe:')).length;
  const before = pipes();
  await starter.openTerminal('sleep', '1234');
  assert.equal(pipes(), before + 2);
  await starter.kill();
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.recoverDomain(known, spec, soon());
  assert.ok(domain !== undefined);
  const left = await runCommand(domain, sh('ps -o args | grep "[s]leep 1234"'));
  assert.deepEqual([left.exitCode, left.stdout], [1, '']);
  assert.deepEqual(await exitCodes(domain), [0, 1, 2, 3, 4, 5, 6, 7]);

  const user = await runCommand(domain, sh('id -un; id -gn; echo $HOME; exit 3'));
  assert.deepEqual([user.stdout, user.exitCode], ['worker\nworker\n/home/worker\n', 3]);
  await workAtTerminal(domain, /\/dev\/hvc\d/);
  await eventually(() => pipes() === before, 'QEMU has no terminal left');
});
