import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { Domain, GuestCommand } from '#vm';
import type { CommandExit, TerminalSize } from '../../src/vm/virtualizer.ts';
import { execIn } from './exec.ts';
import { until } from './live-vm.ts';
import { patient } from './patience.ts';
import { soon } from './vm.ts';

/** A shell at a terminal in the guest, with all that it has shown. */
export class Terminal implements Disposable {
  readonly #command: GuestCommand;
  readonly #reading: Promise<void>;
  #screen = '';

  private constructor(command: GuestCommand) {
    this.#command = command;
    this.#reading = this.#read();
    this.#reading.catch(() => {});
  }

  static async open(domain: Domain, size: TerminalSize): Promise<Terminal> {
    const command = await execIn(domain, ['sh'], { terminal: true });
    command.resize(size);
    return new Terminal(command);
  }

  resize(size: TerminalSize): void {
    this.#command.resize(size);
  }

  async type(text: string): Promise<void> {
    await this.#command.write(Buffer.from(text), soon(10_000));
  }

  /** Waits for it on the screen, and gives its first group; `again` is typed each time that it is not there. */
  async shows(
    pattern: RegExp,
    { again }: { readonly again?: string } = {},
  ): Promise<string | undefined> {
    const look = async (): Promise<string> => {
      if (again !== undefined && !pattern.test(this.#screen)) await this.type(again);
      return this.#screen;
    };
    const screen = await until(look, (shown) => pattern.test(shown), 20_000);
    return pattern.exec(screen)?.[1];
  }

  /** How the shell ended, once all of its output is read. */
  async exit(): Promise<CommandExit> {
    await this.#reading;
    return await this.#command.exit(soon());
  }

  [Symbol.dispose](): void {
    this.#command[Symbol.dispose]();
  }

  async #read(): Promise<void> {
    for await (const { stream, data } of this.#command.output) {
      assert.equal(stream, 'stdout');
      this.#screen += Buffer.from(data).toString('latin1');
    }
  }
}

/** Keeps this process from all other work until the guest has printed it on its console, whose file this is. */
export function heldUntilPrinted(pattern: RegExp, console: string): void {
  const clock = new Int32Array(new SharedArrayBuffer(4));
  const end = performance.now() + patient(60_000);
  while (!pattern.test(readFileSync(console, 'latin1'))) {
    assert.ok(performance.now() < end, `${pattern} on the console`);
    Atomics.wait(clock, 0, 0, 10);
  }
}

/** A terminal as a user works with it; `name` is what `tty` gives. */
export async function workAtTerminal(domain: Domain, name: RegExp): Promise<void> {
  using shell = await Terminal.open(domain, { rows: 33, columns: 101 });
  await shell.type('stty size; tty; echo $TERM\n');
  await shell.shows(new RegExp(`33 101\\r\\n${name.source}\\r\\nxterm`));
  shell.resize({ rows: 40, columns: 120 });
  await shell.shows(/40 120\r\n/, { again: 'stty size\n' });
  // Its line is shown before it runs, while Ctrl-C is still a character to the shell.
  await shell.type("sh -c 'echo begun; exec sleep 1000'\n");
  await shell.shows(/begun\r\n/);
  await shell.type('\x03');
  await shell.type('echo after-$?\n');
  await shell.shows(/after-130\r\n/);
  await shell.type('exit 7\n');
  assert.equal((await shell.exit()).exitCode, 7);
}

/** Two terminals with a size each: a new one of the first is reported to its program alone, and at once whole. */
export async function resizeOneOfTwo(domain: Domain): Promise<void> {
  using one = await Terminal.open(domain, { rows: 33, columns: 101 });
  using other = await Terminal.open(domain, { rows: 20, columns: 60 });
  for (const shell of [one, other]) {
    await shell.type('sh -c \'trap "stty size" WINCH; echo begun; while :; do sleep 0.1; done\'\n');
    await shell.shows(/begun\r\n/);
  }
  one.resize({ rows: 40, columns: 120 });
  await one.shows(/begun\r\n40 120\r\n/);
  other.resize({ rows: 21, columns: 61 });
  await other.shows(/begun\r\n21 61\r\n/);
}
