import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { Client, type ClientReadableStream, credentials, type ServiceError } from '@grpc/grpc-js';
import { patient } from './patience.ts';

const root = resolve(import.meta.dirname, '../..');

export const cookie = {
  NOMAD_PLUGIN_MAGIC_COOKIE: 'e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255',
  PLUGIN_PROTOCOL_VERSIONS: '2',
  PLUGIN_MIN_PORT: '10000',
  PLUGIN_MAX_PORT: '25000',
};

export interface LaunchOptions {
  /** A program of ours: absolute, or from the top of the project. */
  readonly entry?: string;
  /** A program that is run instead of Node with an entry. */
  readonly program?: string;
  readonly args?: readonly string[];
  /** Of Node itself. */
  readonly nodeArgs?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** The path by which it is started, as the program sees it. */
  readonly argv0?: string;
}

/** The plugin as a process of its own, and what it wrote. Disposing ends it and looks that nothing of it is left. */
export class PluginProcess implements AsyncDisposable {
  readonly pid: number;
  readonly stdout: string[] = [];
  readonly stderr: string[] = [];
  readonly exit: Promise<{ readonly code: number | null; readonly signal: string | null }>;
  /** A directory for temporary files that only this process uses. */
  readonly tmp: string;
  readonly #child;
  #clients: PluginClient[] = [];

  constructor(o: LaunchOptions = {}) {
    this.tmp = mkdtempSync(join(tmpdir(), 'plugin-test-'));
    const entry = resolve(root, o.entry ?? 'bin/nomad-driver-qmp.ts');
    const source = o.program === undefined ? [...(o.nodeArgs ?? []), entry] : [];
    const { PATH, NODE_COMPILE_CACHE } = process.env;
    this.#child = spawn(o.program ?? process.execPath, [...source, ...(o.args ?? [])], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH, NODE_COMPILE_CACHE, TMPDIR: this.tmp, ...o.env },
      cwd: o.cwd ?? '/',
      ...(o.argv0 !== undefined && { argv0: o.argv0 }),
    });
    this.pid = this.#child.pid ?? 0;
    createInterface(this.#child.stdout).on('line', (line) => this.stdout.push(line));
    createInterface(this.#child.stderr).on('line', (line) => this.stderr.push(line));
    this.exit = new Promise((done) => {
      this.#child.once('close', (code, signal) => done({ code, signal }));
    });
  }

  /** Launched as Nomad does, and past the handshake. */
  static async serve(o: LaunchOptions = {}): Promise<PluginProcess> {
    const plugin = new PluginProcess({ ...o, env: { ...cookie, ...o.env } });
    await plugin.until('the handshake', () => plugin.stdout.length > 0);
    return plugin;
  }

  get socketPath(): string {
    return this.stdout[0]?.split('|')[3] ?? '';
  }

  client(): PluginClient {
    const client = new PluginClient(this.socketPath);
    this.#clients.push(client);
    return client;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** As the death of the agent does: nobody reads any more. */
  closePipes(): void {
    this.#child.stdout.destroy();
    this.#child.stderr.destroy();
  }

  /** Log lines, parsed. */
  logs(): Record<string, unknown>[] {
    return this.stderr.flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []));
  }

  async until(what: string, condition: () => boolean, ms = 10_000): Promise<void> {
    const end = performance.now() + patient(ms);
    while (!condition()) {
      if (performance.now() > end || this.#child.exitCode !== null) {
        throw new Error(`no ${what}; stderr: ${this.stderr.join('\n')}`);
      }
      await new Promise((done) => setTimeout(done, 10));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.kill('SIGTERM');
    const forced = setTimeout(() => this.kill('SIGKILL'), patient(5000));
    await this.exit;
    clearTimeout(forced);
    const socket = this.socketPath;
    const left = socket !== '' && this.#child.exitCode !== null && existsSync(dirname(socket));
    rmSync(this.tmp, { recursive: true, force: true });
    if (left) throw new Error(`${dirname(socket)} is left behind`);
  }
}

interface Method<I, O> {
  readonly name: string;
  readonly parent: { readonly typeName: string };
  readonly input: I;
  readonly output: O;
}

const passBytes = (bytes: Buffer): Buffer => bytes;

/** A real gRPC connection to the plugin. */
export class PluginClient {
  readonly #client: Client;

  constructor(socketPath: string) {
    this.#client = new Client(`unix:${socketPath}`, credentials.createInsecure(), {
      'grpc.default_authority': 'unused',
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
    });
  }

  call<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    request: MessageInitShape<I>,
    signal?: AbortSignal,
  ): Promise<MessageShape<O>> {
    const bytes = toBinary(method.input, create(method.input, request));
    return this.raw(method, Buffer.from(bytes), signal).then((it) => fromBinary(method.output, it));
  }

  /** Any bytes as the request. Rejects with gRPC's ServiceError. */
  raw(
    method: Method<DescMessage, DescMessage>,
    bytes: Buffer,
    signal?: AbortSignal,
  ): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest<Buffer, Buffer>(
        pathOf(method),
        passBytes,
        passBytes,
        bytes,
        (error, value) => (error ? reject(error) : resolve(value ?? Buffer.alloc(0))),
      );
      signal?.addEventListener('abort', () => call.cancel());
    });
  }

  stream<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    request: MessageInitShape<I>,
  ): PluginStream<MessageShape<O>> {
    const call = this.#client.makeServerStreamRequest<Buffer, Buffer>(
      pathOf(method),
      passBytes,
      passBytes,
      Buffer.from(toBinary(method.input, create(method.input, request))),
    );
    return new PluginStream(call, (bytes) => fromBinary(method.output, bytes));
  }

  bidi(method: Method<DescMessage, DescMessage>) {
    return this.#client.makeBidiStreamRequest<Buffer, Buffer>(pathOf(method), passBytes, passBytes);
  }

  close(): void {
    this.#client.close();
  }
}

/** What came on a server stream so far, and how it ended. */
export class PluginStream<T> {
  readonly messages: T[] = [];
  /** Arrival times, ms on the monotonic clock. */
  readonly times: number[] = [];
  /** The status: 0 when it ended in order. */
  readonly end: Promise<number>;
  ended = false;
  readonly #call: ClientReadableStream<Buffer>;

  constructor(call: ClientReadableStream<Buffer>, decode: (bytes: Buffer) => T) {
    this.#call = call;
    call.on('data', (bytes: Buffer) => {
      this.messages.push(decode(bytes));
      this.times.push(performance.now());
    });
    this.end = new Promise((done) => {
      call.on('error', (error: ServiceError) => done(error.code));
      call.on('end', () => done(0));
    });
    void this.end.then(() => {
      this.ended = true;
    });
  }

  cancel(): void {
    this.#call.cancel();
  }

  async until(count: number, ms = 5000): Promise<readonly T[]> {
    const limit = performance.now() + patient(ms);
    while (this.messages.length < count) {
      if (performance.now() > limit)
        throw new Error(`${this.messages.length} of ${count} messages`);
      await new Promise((done) => setTimeout(done, 5));
    }
    return this.messages;
  }
}

function pathOf(method: Method<DescMessage, DescMessage>): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** What a call failed with; throws when it did not. */
export async function failureOf(call: Promise<unknown>): Promise<ServiceError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof Error && 'code' in error && 'details' in error) {
      return error as ServiceError;
    }
    throw error;
  }
  throw new Error('the call succeeded');
}
