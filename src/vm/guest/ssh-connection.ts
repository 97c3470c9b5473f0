import { existsSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import {
  abortable,
  closeFd,
  type Exit,
  kill,
  type SpawnedProcess,
  slept,
  socketPair,
  spawnDetached,
  within,
} from '#host';
import type { Waiting } from '#spec';
import { commandArguments, masterArguments, sshDirectory, sshNames } from '../ssh/ssh-arguments.ts';
import { LastText } from './last-text.ts';
import type { Stream } from './output.ts';
import { WayMissing } from './way.ts';

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

export type SshStream = 'in' | 'out' | 'err';

/** A program of ssh that runs, with this process's ends of its streams. */
export interface SshProcess {
  readonly sockets: ReadonlyMap<SshStream, Socket>;
  readonly exit: Promise<Exit>;
  /** Ends it; what it has written may still be read. */
  end(): Promise<void>;
}

export function closeStreams({ sockets }: Pick<SshProcess, 'sockets'>): void {
  for (const socket of sockets.values()) socket.destroy();
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
    const reported = new LastText(master.sockets.get('err'));
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
  async run(command: string, terminal: boolean): Promise<SshProcess> {
    const args = commandArguments(this.#host, { command, terminal });
    return await start(this.#host, { args, network: false });
  }

  async close(): Promise<void> {
    this.#open = false;
    await this.#master.end();
    closeStreams(this.#master);
  }
}

/** As a user of its own that sees its files and programs, and a network only to connect to the guest. */
async function start(
  { program, uid, dir }: SshHost,
  { args, network }: { readonly args: readonly string[]; readonly network: boolean },
): Promise<SshProcess> {
  const pairs = (['in', 'out', 'err'] as const).map((name) => [name, socketPair()] as const);
  let child: SpawnedProcess;
  try {
    child = await spawnDetached({
      program,
      args,
      env: { LC_ALL: 'C', TERM: 'xterm' },
      cwd: '/',
      uid,
      gid: uid,
      stdio: pairs.map(([, [theirs]]) => theirs),
      alone: !network,
      endsWhole: true,
      bareFiles: [
        { path: dir, name: sshDirectory, writable: true },
        { path: `${dir}/${sshNames.users}`, name: 'etc/passwd', writable: false },
      ],
      limits: { openFiles: maxOpenFiles },
    });
  } catch (error) {
    for (const [, [, ours]] of pairs) closeFd(ours);
    throw error;
  } finally {
    for (const [, [theirs]] of pairs) closeFd(theirs);
  }
  const sockets = new Map(pairs.map(([name, [, ours]]) => [name, asSocket(ours)]));
  const { identity, exit } = child;
  const end = async (): Promise<void> => {
    using limited = within(killMs);
    await kill(identity, limited);
  };
  return { sockets, exit, end };
}

function asSocket(fd: number): Socket {
  const socket = new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
  socket.on('error', () => {});
  return socket;
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

/**
 * Of the loader in the guest: the number of its terminal. What comes before is of ssh itself, or of the login shell, and
 * not the command's.
 */
export async function begun(
  pieces: Stream<SshStream>,
  terminal: boolean,
  waiting: Waiting,
): Promise<number> {
  const reported = new LastText(undefined);
  const begin = new Map<SshStream, number>();
  while (begin.size < (terminal ? 1 : 2)) {
    const { value, done } = await abortable(pieces.next(), waiting);
    if (done === true) throw refused(await reported.line());
    if ('mark' in value)
      begin.set(value.stream, value.mark.kind === 'begun' ? value.mark.terminal : 0);
    else if (value.stream === 'err') reported.add(value.data);
  }
  return begin.get('out') ?? 0;
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
