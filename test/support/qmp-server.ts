import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const greeting =
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}\r\n';

/** A command as the server received it. */
export interface Received {
  readonly execute: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly id: unknown;
}

/** What the server does about a command; it may write anything, or nothing. */
export type Script = (command: Received, peer: Peer) => void;

/** One client as the server sees it. */
export class Peer {
  readonly socket: Socket;
  readonly received: Received[] = [];

  constructor(socket: Socket) {
    this.socket = socket;
  }

  /** Writes as is: garbage, half lines, anything. */
  raw(data: string | Uint8Array): void {
    if (!this.socket.destroyed) this.socket.write(data);
  }

  line(value: unknown): void {
    this.raw(`${JSON.stringify(value)}\r\n`);
  }

  answer(id: unknown, value: unknown = {}): void {
    this.line({ return: value, id });
  }

  refuse(id: unknown, errorClass: string, desc: string): void {
    this.line({ id, error: { class: errorClass, desc } });
  }

  event(event: string, data: object = {}): void {
    this.line({ timestamp: { seconds: 1_700_000_000, microseconds: 250_000 }, event, data });
  }
}

/**
 * A monitor that follows a script, on a real unix socket in a directory of its own. Unscripted: it greets, answers
 * `qmp_capabilities` and every other command with an empty object.
 */
export class QmpServer implements AsyncDisposable {
  readonly path: string;
  readonly peers: Peer[] = [];
  readonly #dir: string;
  readonly #server: Server;

  static async start(
    options: { readonly greet?: boolean; readonly script?: Script } = {},
  ): Promise<QmpServer> {
    const dir = mkdtempSync(join(tmpdir(), 'qmp-server-'));
    const server = createServer();
    const self = new QmpServer(dir, server);
    server.on('connection', (socket) => self.#serve(socket, options));
    server.listen(self.path);
    await once(server, 'listening');
    return self;
  }

  private constructor(dir: string, server: Server) {
    this.#dir = dir;
    this.#server = server;
    this.path = join(dir, 'qmp.sock');
  }

  /** The only client so far. */
  get peer(): Peer {
    const [peer] = this.peers;
    if (peer === undefined) throw new Error('nobody has connected');
    return peer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { socket } of this.peers) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #serve(socket: Socket, options: { readonly greet?: boolean; readonly script?: Script }): void {
    const peer = new Peer(socket);
    this.peers.push(peer);
    socket.on('error', () => {});
    let rest = '';
    socket.on('data', (chunk) => {
      const { texts, unfinished } = cutCommands(rest + chunk.toString());
      rest = unfinished;
      for (const text of texts) this.#handle(JSON.parse(text), peer, options.script);
    });
    if (options.greet !== false) peer.raw(greeting);
  }

  #handle(command: Received, peer: Peer, script: Script | undefined): void {
    peer.received.push(command);
    if (command.execute === 'qmp_capabilities' || script === undefined) peer.answer(command.id);
    else script(command, peer);
  }
}

// Like QEMU: a command ends where its braces are balanced, with or without a line end.
function cutCommands(input: string): { readonly texts: string[]; readonly unfinished: string } {
  const texts: string[] = [];
  let start = 0;
  let depth = 0;
  for (const { 0: token, index } of input.matchAll(/"(?:[^"\\]|\\.)*"|[{}]/g)) {
    if (token === '{') depth += 1;
    if (token !== '}') continue;
    depth -= 1;
    if (depth > 0) continue;
    texts.push(input.slice(start, index + 1));
    start = index + 1;
  }
  return { texts, unfinished: input.slice(start) };
}
