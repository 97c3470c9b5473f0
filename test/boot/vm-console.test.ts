import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { test } from 'node:test';
import type { VmSpec } from '#spec';
import { documentedLine } from '../support/documented.ts';
import { execIn, runCommand, sh } from '../support/exec.ts';
import { groundFor, guestOrSkip, guestSpec, told } from '../support/live-vm.ts';
import { heldUntilPrinted } from '../support/terminal.ts';
import { eventually, soon } from '../support/vm.ts';

/** A shell on the console, as systemd would start a login there. */
const userData: VmSpec['guest']['userData'] = {
  kind: 'inline',
  text: "#!/bin/sh\nsetsid sh -c 'exec sh -i </dev/hvc0 >/dev/hvc0 2>&1' &\n",
};

/** An operator at the console. */
class Operator implements Disposable {
  readonly #socket: Socket;
  screen = '';

  static async attach(path: string): Promise<Operator> {
    const socket = connect(path);
    await once(socket, 'connect', soon());
    return new Operator(socket);
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('error', () => {});
    socket.on('data', (bytes: Buffer) => {
      this.screen += bytes.toString('latin1');
    });
  }

  type(text: string): void {
    this.#socket.write(text);
  }

  /** Reads nothing more. */
  stare(): void {
    this.#socket.pause();
  }

  async shows(pattern: RegExp): Promise<void> {
    await eventually(() => pattern.test(this.screen), `${pattern} at the console`, 20_000);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

test('an interactive console beside the log', async (t) => {
  const guest = await guestOrSkip(t, 'tiny');
  if (guest === undefined) return;
  await using ground = groundFor(guest);
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const plain = guestSpec(ground, guest, pipes);
  const spec = { ...plain, guest: { ...plain.guest, userData } };
  const first = ground.virtualizer();
  let domain = await first.createDomain(spec, soon(60_000));
  await told(log, /TINY-READY/, 120_000);
  const path = domain.attributes['console.socket'] ?? assert.fail('no console');

  await t.test('V-107: an operator sees what was before, types, and only root can', async () => {
    assert.equal(statSync(path).mode & 0o777, 0o600);
    using operator = await Operator.attach(path);
    await operator.shows(/# /);
    operator.type('echo $((6*7)); tty\n');
    await operator.shows(/42\r\n\/dev\/hvc0\r\n/);
    assert.doesNotMatch(log.text, /hvc0\r/, 'the log is another console');
  });

  await t.test(
    'V-107: the command of docs/guests.md brings a terminal to the console',
    async (t) => {
      const line = documentedLine('docs/guests.md', '/console.sock', dirname(path));
      // With a terminal of its own, which the command sets up.
      const child = spawn('script', ['-qfec', line, '/dev/null'], {
        stdio: ['pipe', 'pipe', 'ignore'],
      });
      t.after(() => child.kill('SIGKILL'));
      const left = once(child, 'exit');
      let screen = '';
      child.stdout.on('data', (bytes: Buffer) => {
        screen += bytes.toString('latin1');
      });
      const shows = (pattern: RegExp) =>
        eventually(() => pattern.test(screen), `${pattern} in the terminal`, 20_000);
      await shows(/42\r\n\/dev\/hvc0\r\n/);
      child.stdin.write('echo by-hand$((1+1))\r');
      await shows(/by-hand2\r/);
      child.stdin.write('\x1d');
      await left;
    },
  );

  await t.test('V-107: several operators see the same, and the history', async () => {
    using one = await Operator.attach(path);
    using other = await Operator.attach(path);
    await one.shows(/42\r\n\/dev\/hvc0\r\n/);
    await other.shows(/42\r\n\/dev\/hvc0\r\n/);
    one.type('echo both$((1+1))\n');
    await one.shows(/both2\r\n/);
    await other.shows(/both2\r\n/);
  });

  await t.test('V-107: an operator sees all, however late the plugin reads', async () => {
    using operator = await Operator.attach(path);
    await operator.shows(/# /);
    operator.type('stty -echo; seq 1000; echo ALL-$((6*7)) >/dev/ttyS0; stty echo\n');
    await operator.shows(/\n1\r\n/);
    heldUntilPrinted(/ALL-42/, ground.paths().console);
    const lines = Array.from({ length: 1000 }, (_, index) => `${index + 1}\r\n`);
    await operator.shows(/\n1000\r\n/);
    assert.ok(operator.screen.includes(`\n${lines.join('')}`), operator.screen);
  });

  await t.test('what was typed last before leaving arrives', async () => {
    {
      using operator = await Operator.attach(path);
      await operator.shows(/both2/);
      operator.type('touch /tmp/typed\n');
    }
    const typed = sh(
      'for i in $(seq 200); do [ -e /tmp/typed ] && exit 0; sleep 0.1; done; exit 1',
    );
    assert.equal((await runCommand(domain, typed)).exitCode, 0);
  });

  await t.test('V-95: a terminal of a command is another console', async () => {
    using operator = await Operator.attach(path);
    using command = await execIn(domain, ['tty'], { terminal: true });
    let screen = '';
    for await (const { data } of command.output) screen += Buffer.from(data).toString('latin1');
    assert.match(screen, /\/dev\/hvc[1-7]\r\n/);
    operator.type('echo still$((1+1))\n');
    await operator.shows(/still2\r\n/);
    assert.ok(!operator.screen.includes('\u001e'), 'nothing of the command was here');
  });

  await t.test('V-107 V-97: it outlives the plugin, with its history', async () => {
    using before = await Operator.attach(path);
    await before.shows(/still2/);
    const { record } = domain;
    await first[Symbol.asyncDispose]();
    using direct = await Operator.attach(ground.paths().hvcSocket);
    direct.type('echo alone$((1+1))\n');
    await direct.shows(/alone2\r\n/);
    direct[Symbol.dispose]();
    const adopted = await ground.virtualizer().recoverDomain(record, spec, soon());
    domain = adopted ?? assert.fail('not adopted');
    using after = await Operator.attach(path);
    await after.shows(/still2.*alone2\r\n/s);
    after.type('echo again$((1+1))\n');
    await after.shows(/again2\r\n/);
  });

  await t.test(
    'a flood makes neither the guest wait nor the history grow, read or not',
    async () => {
      const flood = sh('head -c 8000000 /dev/zero | tr "\\\\0" x >/dev/hvc0; echo done');
      assert.equal((await runCommand(domain, flood)).stdout, 'done\n');
      using idle = await Operator.attach(path);
      idle.stare();
      assert.equal((await runCommand(domain, flood)).stdout, 'done\n');
      const blocks = (): number => statSync(ground.paths().hvcLog).blocks * 512;
      await eventually(() => blocks() <= 128 * 1024, 'the history is cut', 10_000);
      using operator = await Operator.attach(path);
      operator.type('\necho after$((1+1))\n');
      await operator.shows(/after2\r\n/);
      assert.ok(operator.screen.length < 200 * 1024);
    },
  );
});
