import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram';
import { createServer, isIPv6, type Server, type Socket } from 'node:net';
import { setImmediate as immediate } from 'node:timers/promises';
import { type Logger, tcpSocket, udpSocket } from '#host';
import { adoptDatagrams, adoptSocket, closeSocket } from '../links/adopt-socket.ts';
import { netError } from '../model/error.ts';
import type { KnownGuests } from '../store/known-guests.ts';
import { Forwarder, type Transport } from './forwarder.ts';
import { Limits } from './limits.ts';
import {
  asReplyTo,
  type DnsQuestion,
  decodeQuestion,
  encodeFailure,
  encodeReply,
  fitUdp,
  rcode,
} from './message.ts';
import { readMessages, writeMessage } from './stream.ts';
import { answerFrom, type Zone } from './zone.ts';

export interface DnsServerOptions {
  readonly bridge: string;
  /** The network's gateway, by one of its addresses. */
  readonly address: string;
  readonly port: number;
  readonly guests: KnownGuests<Zone>;
  /** Name servers for all that the zone does not know, as they are now. */
  readonly upstream: () => Promise<readonly string[]>;
  readonly forwarder?: Forwarder;
  readonly log: Logger;
}

// A guest without a resolver of its own opens a handful at a time.
const maxQuestions = { each: 64, all: 1024 };
const maxConnections = { each: 8, all: 256 };
const idleMs = 10_000;
const maxQuestionBytes = 1024;

/**
 * The name server of one bridge at one of its addresses: it answers its own guests only, with the names of the network, and asks other servers
 * about the rest. It remembers no answers, so that no guest can plant one for another.
 */
export class DnsServer implements AsyncDisposable {
  readonly #options: DnsServerOptions;
  readonly #forwarder: Forwarder;
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #questions = new Limits(maxQuestions);
  readonly #connections = new Limits(maxConnections);
  readonly #open = new Set<Socket>();
  readonly #closing = new AbortController();
  #failed = false;

  private constructor(options: DnsServerOptions) {
    this.#options = options;
    this.#forwarder = options.forwarder ?? new Forwarder();
    this.#udp = createSocket(isIPv6(options.address) ? 'udp6' : 'udp4');
    this.#tcp = createServer({ noDelay: true });
    this.#udp.on('message', (message, from) => void this.#receive(message, from));
    this.#tcp.on('connection', (socket) => void this.#serve(socket));
  }

  static async open(options: DnsServerOptions): Promise<DnsServer> {
    const { bridge, address, log } = options;
    const server = new DnsServer(options);
    try {
      await server.#bind();
    } catch (cause) {
      await server[Symbol.asyncDispose]();
      throw netError(`opening the port of the name server on bridge ${bridge} failed`, cause);
    }
    for (const socket of [server.#udp, server.#tcp]) {
      socket.on('error', (error: Error) => server.#fail(error));
      // A name server alone does not keep the plugin alive.
      socket.unref();
    }
    log.info('name server started', { bridge, address });
    return server;
  }

  /** Whether one of its sockets has failed. */
  get failed(): boolean {
    return this.#failed;
  }

  /** VMs have come or gone: the next question is answered from the files as they are then. */
  forget(): void {
    this.#options.guests.forget();
  }

  #fail(error: Error): void {
    this.#failed = true;
    this.#options.log.warn('socket of the name server failed', {
      bridge: this.#options.bridge,
      error,
    });
  }

  async #bind(): Promise<void> {
    const { bridge, address, port } = this.#options;
    const where = { device: bridge, address, port };
    await adoptDatagrams(this.#udp, udpSocket({ ...where, broadcast: false, spread: true }));
    await adoptSocket(this.#tcp, tcpSocket(where), (fd, done) =>
      this.#tcp.listen({ fd, exclusive: true }, done),
    );
  }

  async #receive(message: Buffer, { address, port }: RemoteInfo): Promise<void> {
    const reply = await this.#answer(message, { guest: address, transport: 'udp' });
    if (reply === undefined || this.#closing.signal.aborted) return;
    // A guest that is gone by now is no error of ours.
    this.#udp.send(reply, port, address, () => {});
  }

  async #serve(socket: Socket): Promise<void> {
    const guest = socket.remoteAddress ?? '';
    using place = this.#connections.take(guest);
    // The one who reads or writes gets the error, too.
    socket.on('error', () => {});
    if (place === undefined || !(await this.#isGuest(guest))) {
      socket.destroy();
      return;
    }
    this.#open.add(socket);
    socket.setTimeout(idleMs, () => socket.destroy());
    try {
      for await (const message of readMessages(socket, { maxBytes: maxQuestionBytes })) {
        const reply = await this.#answer(message, { guest, transport: 'tcp' });
        if (reply === undefined) break;
        await writeMessage(socket, reply);
        // One read may hold thousands of questions, of which nothing here waits for the kernel.
        await immediate();
      }
    } catch {
      // The guest has closed it, or was silent for too long.
    } finally {
      this.#open.delete(socket);
      socket.destroy();
    }
  }

  /** undefined: it gets none. Never fails. */
  async #answer(message: Buffer, from: From): Promise<Buffer | undefined> {
    using place = this.#questions.take(from.guest);
    if (place === undefined) return undefined;
    try {
      const zone = await this.#options.guests.get();
      if (!zone.guests.has(from.guest)) return undefined;
      return await this.#answerGuest(message, zone, from);
    } catch (error) {
      const { bridge, log } = this.#options;
      log.warn('answering a question about a name failed', { bridge, error });
      return undefined;
    }
  }

  async #answerGuest(message: Buffer, zone: Zone, from: From): Promise<Buffer | undefined> {
    const received = decodeQuestion(message);
    switch (received.kind) {
      case 'ignored':
        return undefined;
      case 'invalid':
        return received.reply;
      case 'question': {
        const { question } = received;
        const own = answerFrom(zone, question);
        const reply = own ? encodeReply(question, own) : await this.#forward(question, from);
        return from.transport === 'udp' ? fitUdp(question, reply) : reply;
      }
      default:
        return received satisfies never;
    }
  }

  async #forward(question: DnsQuestion, { guest, transport }: From): Promise<Buffer> {
    // One that serves names itself must not be asked its own question.
    const servers = (await this.#options.upstream()).filter((server) => server !== guest);
    const waiting = { signal: this.#closing.signal };
    const reply = await this.#forwarder.ask(question, { servers, transport }, waiting);
    if (reply === undefined) return encodeFailure(question, rcode.failed);
    return asReplyTo(question, reply);
  }

  async #isGuest(address: string): Promise<boolean> {
    const zone = await this.#options.guests.get().catch(() => undefined);
    return zone?.guests.has(address) ?? false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(new DOMException('the name server is closed', 'AbortError'));
    for (const socket of this.#open) socket.destroy();
    await Promise.all([closeSocket(this.#udp), closeSocket(this.#tcp)]);
  }
}

interface From {
  readonly guest: string;
  readonly transport: Transport;
}
