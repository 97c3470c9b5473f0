import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { execIn, runCommand, sh } from '../support/exec.ts';
import { groundFor, guestOrSkip, guestSpec, powerOff, told, until } from '../support/live-vm.ts';
import { eventually, soon } from '../support/vm.ts';

const MiB = 2 ** 20;
const streamedMiB = 20;

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

  await t.test(`${streamedMiB} MiB through stdin and back`, async () => {
    const sent = createHash('sha256');
    const got = createHash('sha256');
    using cat = await execIn(domain, ['cat']);
    const feed = async (): Promise<void> => {
      for (let count = 0; count < streamedMiB; count += 1) {
        const bytes = randomBytes(MiB);
        sent.update(bytes);
        await cat.write(bytes, soon(120_000));
      }
      cat.endInput();
    };
    const begun = performance.now();
    const feeding = feed();
    for await (const { data } of cat.output) got.update(data);
    await feeding;
    t.diagnostic(`${streamedMiB} MiB in ${Math.round(performance.now() - begun)} ms`);
    assert.equal(got.digest('hex'), sent.digest('hex'));
    assert.equal((await cat.exit(soon())).exitCode, 0);
  });

  await t.test('sequential and parallel commands', async () => {
    const begun = performance.now();
    for (let count = 0; count < 50; count += 1) {
      assert.equal((await run(['true'])).exitCode, 0);
    }
    t.diagnostic(`true: ${Math.round((performance.now() - begun) / 50)} ms`);
    const codes = await Promise.all(
      Array.from({ length: 8 }, (_, code) => run(sh(`exit ${code}`))),
    );
    assert.deepEqual(
      codes.map((it) => it.exitCode),
      [0, 1, 2, 3, 4, 5, 6, 7],
    );
  });

  await t.test(
    'a command that nobody reads waits; nothing of it is left when the user goes away',
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
    using shell = await execIn(domain, ['sh'], { terminal: true });
    shell.resize({ rows: 33, columns: 101 });
    let screen = '';
    const type = (text: string) => shell.write(Buffer.from(text), soon(10_000));
    const reading = (async () => {
      for await (const { stream, data } of shell.output) {
        assert.equal(stream, 'stdout');
        screen += Buffer.from(data).toString('latin1');
      }
    })();
    const shows = (pattern: RegExp) =>
      until(
        async () => screen,
        (text) => pattern.test(text),
        20_000,
      );
    await type('stty size; tty; echo $TERM\n');
    await shows(/\n33 101\r\n\/dev\/hvc\d\r\nxterm/);
    shell.resize({ rows: 40, columns: 120 });
    await until(
      async () => {
        await type('stty size\n');
        return screen;
      },
      (text) => /\n40 120\r\n/.test(text),
      20_000,
    );
    await type('sleep 1000\n');
    await shows(/sleep 1000\r\n/);
    await type('\x03');
    await type('echo after-$?\n');
    await shows(/\nafter-130\r\n/);
    await type('exit 7\n');
    await reading;
    assert.equal((await shell.exit(soon())).exitCode, 7);
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

test('P-41: a plugin that was killed leaves no command in the guest, and the next can run some', async (t) => {
  const guest = await guestOrSkip(t, 'tiny');
  if (guest === undefined) return;
  await using ground = groundFor(guest);
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const spec = guestSpec(ground, guest, pipes);
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
});
