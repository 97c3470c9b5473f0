import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { Domain } from '#vm';
import { execTask } from '../../src/plugin/serve/exec.ts';
import { execIn, runCommand, sh } from './exec.ts';
import { until } from './live-vm.ts';
import { streamThrough } from './streamed.ts';
import { Terminal, workAtTerminal } from './terminal.ts';
import { soon } from './vm.ts';

export interface Way {
  /** What `tty` gives there. */
  readonly terminal: RegExp;
  /** Whether commands may begin and end at the same moment. dropbear 2022.83 loses some of those on a busy host. */
  readonly together: boolean;
}

/** What commands do, by each way that reaches a guest. */
export async function commandsWork(
  t: TestContext,
  domain: Domain,
  { terminal, together }: Way,
): Promise<void> {
  const run = runCommand.bind(undefined, domain);

  await t.test('streams apart, exit code, arguments as they are', async () => {
    const ran = await run(['sh', '-c', 'echo "$1"; echo wrong >&2; exit 3', 'x', `a 'b" $c\n*`]);
    assert.deepEqual(ran, { stdout: `a 'b" $c\n*\n`, stderr: 'wrong\n', exitCode: 3, signal: 0 });
  });

  await t.test('exit codes: no such program, a signal, 255', async () => {
    const none = await run(['no-such-program']);
    assert.equal(none.exitCode, 127);
    assert.match(none.stderr, /no-such-program: not found/);
    const killed = await run(sh('kill -TERM $$'));
    assert.deepEqual([killed.exitCode, killed.signal], [143, 15]);
    assert.equal((await run(sh('exit 255'))).exitCode, 255);
  });

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
    const { stdout } = await run(['wc', '-c'], { input: 'x'.repeat(1_000_003) });
    assert.equal(stdout.trim(), '1000003');
  });

  await t.test(
    '100 MiB through stdin and back, 8 MiB with a slow reader, and 500 commands in turn meanwhile',
    async () => {
      const inTurn = async (): Promise<void> => {
        for (let count = 0; count < 500; count += 1) {
          assert.equal((await run(['true'])).exitCode, 0);
        }
      };
      const slow = async (): Promise<number> => streamThrough(domain, 8, { pauseMs: 5 });
      const others = (): Promise<unknown> => Promise.all([slow(), inTurn()]);
      const beside = together ? others() : undefined;
      const ms = await streamThrough(domain, 100);
      await (beside ?? slow().then(inTurn));
      t.diagnostic(`100 MiB in ${Math.round(ms)} ms`);
    },
  );

  if (together) {
    await t.test('eight commands at once', async () => {
      assert.deepEqual(await exitCodes(domain), [0, 1, 2, 3, 4, 5, 6, 7]);
    });
  }

  await t.test(
    'a command without a reader waits; nothing of it is left when the user goes away',
    async () => {
      const flood = await execIn(domain, sh('(sleep 1000 & wait) & while :; do echo flood; done'));
      assert.equal((await run(['true'])).exitCode, 0);
      flood[Symbol.dispose]();
      const count = sh('ps -o args | grep -c "[s]leep 1000\\|[e]cho flood"');
      const none = (it: string): boolean => it === '0';
      await until(async () => (await run(count)).stdout.trim(), none, 20_000);
    },
  );

  await t.test('a command whose time is up is ended, with its children', async () => {
    const request = { command: sh('sleep 4321 & wait'), timeoutMs: 2000 };
    await assert.rejects(execTask({ domain, env: {} }, request, soon(60_000)), {
      message: 'the command did not end within 2 s and was ended',
    });
    const count = sh('ps -o args | grep -c "[s]leep 4321"');
    const none = (it: string): boolean => it === '0';
    await until(async () => (await run(count)).stdout.trim(), none, 20_000);
  });

  await t.test('a terminal: size, echo, Ctrl-C, its exit code', async () => {
    await workAtTerminal(domain, terminal);
  });

  await t.test('what is typed at once has its meaning: the end of input, Ctrl-C', async () => {
    const ended = await run(['cat'], { terminal: true });
    assert.deepEqual(ended, { stdout: '', stderr: '', exitCode: 0, signal: 0 });
    const interrupted = await run(['sleep', '1000'], { terminal: true, input: '\x03' });
    assert.deepEqual([interrupted.exitCode, interrupted.signal], [130, 2]);
  });

  await t.test('four terminals at once, each with a name and a size of its own', async () => {
    using opened = new DisposableStack();
    const begin = async (number: number) => {
      const size = { rows: 30 + number, columns: 100 + number };
      const shell = opened.use(await Terminal.open(domain, size));
      await shell.type('stty size; tty\n');
      const shown = `${size.rows} ${size.columns}\\r\\n(\\S+)\\r\\n`;
      const name = await shell.shows(new RegExp(shown));
      return { shell, name, number };
    };
    const shells: Awaited<ReturnType<typeof begin>>[] = [];
    for (const number of [1, 2, 3, 4]) shells.push(await begin(number));
    for (const { shell, number } of shells) {
      await shell.type(`exit ${number}\n`);
      assert.equal((await shell.exit()).exitCode, number);
    }
    assert.equal(new Set(shells.map(({ name }) => name)).size, 4);
  });
}

/** Of eight commands that run at once, each with another one. */
export async function exitCodes(domain: Domain): Promise<readonly number[]> {
  const codes = Array.from({ length: 8 }, async (_, code) =>
    runCommand(domain, sh(`exit ${code}`)),
  );
  return (await Promise.all(codes)).map((it) => it.exitCode);
}
