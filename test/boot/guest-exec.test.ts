import assert from 'node:assert/strict';
import { test } from 'node:test';
import { execIn, runCommand, sh } from '../support/exec.ts';
import { groundFor, guestOrSkip, guestSpec, powerOff, told, until } from '../support/live-vm.ts';
import { streamThrough } from '../support/streamed.ts';
import { Terminal, workAtTerminal } from '../support/terminal.ts';
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
  const run = runCommand.bind(undefined, domain);

  await t.test('P-33 V-95: streams apart, exit code, arguments as they are', async () => {
    const ran = await run(['sh', '-c', 'echo "$1"; echo wrong >&2; exit 3', 'x', `a 'b" $c\n*`]);
    assert.deepEqual(ran, { stdout: `a 'b" $c\n*\n`, stderr: 'wrong\n', exitCode: 3, signal: 0 });
  });

  await t.test(
    'exit codes of a program that is not there, and of one that a signal ended',
    async () => {
      const none = await run(['no-such-program']);
      assert.equal(none.exitCode, 127);
      assert.match(none.stderr, /no-such-program: not found/);
      const killed = await run(sh('kill -TERM $$'));
      assert.deepEqual([killed.exitCode, killed.signal], [143, 15]);
    },
  );

  await t.test('the environment is the task’s, and the output is the command’s alone', async () => {
    const env = { GREETING: "it's\nme", SECRET: 'x'.repeat(10_000) };
    const { stdout } = await run(['env'], { env });
    assert.match(stdout, /^GREETING=it's\nme$/m);
    assert.match(stdout, /^SECRET=x{10000}$/m);
    assert.match(stdout, /^PATH=.*\/usr\/bin/m);
    assert.match(stdout, /^HOME=\/root$/m);
    const own = stdout.split('\n').filter((line) => line.startsWith('NOMAD_EXEC'));
    assert.deepEqual(
      own.map((line) => line.replace(/=.*/, '=')),
      ['NOMAD_EXEC='],
    );
  });

  await t.test('input to its end', async () => {
    assert.equal((await run(['cat'], { input: 'abc' })).stdout, 'abc');
    assert.equal((await run(['cat'])).stdout, '');
    assert.equal(
      (await run(['wc', '-c'], { input: 'x'.repeat(1_000_003) })).stdout.trim(),
      '1000003',
    );
  });

  await t.test(
    '100 MiB through stdin and back, 8 MiB with a slow reader, and 500 commands in turn meanwhile',
    async () => {
      const inTurn = async (): Promise<void> => {
        for (let count = 0; count < 500; count += 1) {
          assert.equal((await run(['true'])).exitCode, 0);
        }
      };
      const slowly = { pauseMs: 5 };
      const all = [streamThrough(domain, 100), streamThrough(domain, 8, slowly), inTurn()] as const;
      const [ms] = await Promise.all(all);
      t.diagnostic(`100 MiB in ${Math.round(ms)} ms, beside others`);
    },
  );

  await t.test('eight commands at once', async () => {
    const codes = await Promise.all(
      Array.from({ length: 8 }, (_, code) => run(sh(`exit ${code}`))),
    );
    assert.deepEqual(
      codes.map((it) => it.exitCode),
      [0, 1, 2, 3, 4, 5, 6, 7],
    );
  });

  await t.test(
    'a command without a reader waits; nothing of it is left when the user goes away',
    async () => {
      const flood = await execIn(domain, sh('(sleep 1000 & wait) & while :; do echo flood; done'));
      await eventually(() => process.memoryUsage().rss > 0, 'memory');
      assert.equal((await run(['true'])).exitCode, 0);
      flood[Symbol.dispose]();
      await until(
        async () =>
          (await run(sh('ps -o args | grep -c "[s]leep 1000\\|[e]cho flood"'))).stdout.trim(),
        (count) => count === '0',
        20_000,
      );
    },
  );

  await t.test('a terminal: size, echo, Ctrl-C, its exit code', async () => {
    await workAtTerminal(domain, /\/dev\/hvc\d/);
  });

  await t.test('four terminals at once, each with a name and a size of its own', async () => {
    using opened = new DisposableStack();
    const names = await Promise.all(
      [1, 2, 3, 4].map(async (number) => {
        const size = { rows: 30 + number, columns: 100 + number };
        const shell = opened.use(await Terminal.open(domain, size));
        await shell.type('stty size; tty\n');
        const shown = `${size.rows} ${size.columns}\\r\\n(\\S+)\\r\\n`;
        const name = await shell.shows(new RegExp(shown));
        await shell.type(`exit ${number}\n`);
        assert.equal((await shell.exit()).exitCode, number);
        return name;
      }),
    );
    assert.equal(new Set(names).size, 4);
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
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const spec = guestSpec(ground, guest, {
    ...pipes,
    exec: { user: 'worker' },
    guest: { ...ground.spec(0).guest, userData: { kind: 'inline', text: addWorker } },
  });
  const starter = await ground.starter(spec);
  const known = await starter.create();
  await told(log, /TINY-READY/, 120_000);
  await starter.exec(['sleep', '1234'], ['sh', '-c', 'sleep 1234 & wait']);
  await starter.exec(['sh', '-c', 'trap "" HUP; while :; do sleep 1234; done']);
  await starter.kill();
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.recoverDomain(known, spec, soon());
  assert.ok(domain !== undefined);
  const left = await runCommand(domain, sh('ps -o args | grep "[s]leep 1234"'));
  assert.deepEqual([left.exitCode, left.stdout], [1, '']);
  const codes = Array.from({ length: 8 }, async (_, code) =>
    runCommand(domain, sh(`exit ${code}`)),
  );
  assert.deepEqual(
    (await Promise.all(codes)).map((it) => it.exitCode),
    [0, 1, 2, 3, 4, 5, 6, 7],
  );

  const user = await runCommand(domain, sh('id -un; id -gn; echo $HOME; exit 3'));
  assert.deepEqual([user.stdout, user.exitCode], ['worker\nworker\n/home/worker\n', 3]);
  await workAtTerminal(domain, /\/dev\/hvc\d/);
});
