import { existsSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { constants } from 'node:os';
import type { Writable } from 'node:stream';
import {
  abortable,
  closeFd,
  type Exit,
  kill,
  type ProcessIdentity,
  PseudoTerminal,
  pidfdSignal,
  slept,
  socketPair,
  spawnDetached,
  within,
} from '#host';
import type { Waiting } from '#spec';
import {
  commandArguments,
  masterArguments,
  sshDirectory,
  sshNames,
} from '../../ssh/ssh-arguments.ts';
import type { TerminalSize } from '../../virtualizer.ts';
import { LastText } from '../last-text.ts';
import type { Stream } from '../output.ts';
import { defaultSize } from '../streamed-command.ts';
import { WayMissing } from '../way.ts';

const connectMs = 12_000;
const pollMs = 10;
const killMs = 5000;
const maxOpenFiles = 256;

export interface SshHost {
  readonly program: string;
  readonly uid: number;
  readonly address: string;
  readonly alias: string;
  /** Directory of its files. */
  readonly dir: string;
}

export type SshStream = 'out' | 'err';

/** A program of ssh that runs, with this process's ends of its streams. */
export interface SshProcess {
  readonly input: Writable;
  readonly outputs: ReadonlyMap<SshStream, Socket>;
  readonly identity: ProcessIdentity;
  readonly exit: Promise<Exit>;
  /** Ends it; what it has written may still be read. */
  end(): Promise<void>;
}

/** One whose command has a terminal. */
export interface SshTerminal extends SshProcess {
  resize(size: TerminalSize): void;
}

export function closeStreams({ input, outputs }: Pick<SshProcess, 'input' | 'outputs'>): void {
  for (const stream of [input, ...outputs.values()]) stream.destroy();
}

/** The connection to one guest's sshd, which all commands share. */
export class SshConnection {
  readonly #host: SshHost;
  readonly #master: SshProcess;
  #open = true;

  private constructor(host: SshHost, master: SshProcess) {
    this.#host = host;
    this.#master = master;
    void master.exit.then(() => {
      this.#open = false;
    });
  }

  /** Throws WayMissing that names what the guest lacks. */
  static async open(host: SshHost): Promise<SshConnection> {
    const control = `${host.dir}/${sshNames.control}`;
    rmSync(control, { force: true });
    using limited = within(connectMs);
    const args = masterArguments(host, Math.ceil(connectMs / 1000));
    const master = await start(host, { args, network: true });
    const reported = new LastText(master.outputs.get('err'));
    let ended = false;
    void master.exit.then(() => {
      ended = true;
    });
    while (!existsSync(control)) {
      if (!ended && (await slept(pollMs, limited))) continue;
      await master.end();
      const text = await reported.line();
      closeStreams(master);
      throw missing(host, text);
    }
    return new SshConnection(host, master);
  }

  get open(): boolean {
    return this.#open;
  }

  /** Runs a command in the guest. */
  async run(command: string): Promise<SshProcess> {
    const args = commandArguments(this.#host, { command, terminal: false });
    return await start(this.#host, { args, network: false });
  }

  /** Runs a command at a terminal in the guest, which has the sizes of one on this host. */
  async runAtTerminal(command: string): Promise<SshTerminal> {
    const args = commandArguments(this.#host, { command, terminal: true });
    const ends = PseudoTerminal.open(defaultSize);
    const process = await start(this.#host, { args, network: false, openInput: () => ends });
    const resize = (size: TerminalSize): void => {
      ends.ours.resize(size);
      // It sends the sizes of all terminals. No program has them as the terminal of its session, so the kernel signals none.
      pidfdSignal(this.#master.identity, constants.signals.SIGWINCH);
    };
    return { ...process, resize };
  }

  async close(): Promise<void> {
    this.#open = false;
    await this.#master.end();
    closeStreams(this.#master);
  }
}

interface Ends<S extends Writable = Socket> {
  readonly ours: S;
  readonly theirs: number;
}

interface Start {
  readonly args: readonly string[];
  readonly network: boolean;
  readonly openInput?: () => Ends<Writable>;
}

/** As a user of its own that sees its files and programs, and a network only to connect to the guest. */
async function start(
  { program, uid, dir }: SshHost,
  { args, network, openInput = socketEnds }: Start,
): Promise<SshProcess> {
  using ours = new DisposableStack();
  using theirs = new DisposableStack();
  const open = <S extends Writable>(make: () => Ends<S>): Ends<S> => {
    const ends = make();
    ours.defer(() => void ends.ours.destroy());
    theirs.defer(() => closeFd(ends.theirs));
    return ends;
  };
  const [input, out, err] = [open(openInput), open(socketEnds), open(socketEnds)];
  const { identity, exit } = await spawnDetached({
    program,
    args,
    env: { LC_ALL: 'C', TERM: 'xterm' },
    cwd: '/',
    uid,
    gid: uid,
    stdio: [input.theirs, out.theirs, err.theirs],
    alone: !network,
    endsWhole: true,
    bareFiles: [
      { path: dir, name: sshDirectory, writable: true },
      { path: `${dir}/${sshNames.users}`, name: 'etc/passwd', writable: false },
    ],
    limits: { openFiles: maxOpenFiles },
  });
  ours.move();
  const outputs = new Map<SshStream, Socket>([
    ['out', out.ours],
    ['err', err.ours],
  ]);
  const end = async (): Promise<void> => {
    using limited = within(killMs);
    await kill(identity, limited);
  };
  return { input: input.ours, outputs, identity, exit, end };
}

function socketEnds(): Ends {
  const [theirs, fd] = socketPair();
  const ours = new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
  ours.on('error', () => {});
  return { ours, theirs };
}

function missing({ address }: SshHost, reported: string): WayMissing {
  const options = { cause: new Error(reported) };
  if (/Permission denied/.test(reported)) {
    const text = `the sshd at ${address} does not let root in by the VM's key: it needs an image that cloud-init sets up, and "PermitRootLogin prohibit-password" in its sshd_config`;
    return new WayMissing(text, options);
  }
  if (/host key|HOST IDENTIFICATION/i.test(reported)) {
    const text = `the sshd at ${address} has another host key than the VM was given: remove ssh_keys from user_data, and use an image that cloud-init sets up`;
    return new WayMissing(text, options);
  }
  const text = `no sshd answers at ${address}, port 22: the guest needs openssh-server, or has not started it yet`;
  const detail = reported === '' ? text : `${text} (${reported})`;
  return new WayMissing(detail, { ...options, recoverable: true });
}

/** Waits for the loader in the guest. What comes before is of ssh itself, or of the login shell, and not the command's. */
export async function begun(
  pieces: Stream<SshStream>,
  terminal: boolean,
  waiting: Waiting,
): Promise<void> {
  const reported = new LastText(undefined);
  const begin = new Set<SshStream>();
  while (begin.size < (terminal ? 1 : 2)) {
    const { value, done } = await abortable(pieces.next(), waiting);
    if (done === true) throw refused(await reported.line());
    if ('mark' in value) begin.add(value.stream);
    else if (value.stream === 'err') reported.add(value.data);
  }
}

function refused(reported: string): WayMissing {
  const reason = reported === '' ? '' : ` (${reported})`;
  const text = `the guest's sshd started no command${reason}; with MaxSessions in its sshd_config it must allow ten`;
  return new WayMissing(text);
}

/** What an sshd lacks by which no command began in this time. */
export function tooLate(startMs: number, cause: unknown): WayMissing {
  const text = `no command began in the guest within ${startMs / 1000} s: its sshd does not answer, or it has no sh, or no stty for a terminal`;
  return new WayMissing(text, { cause, recoverable: true });
}
