import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';
import { abortable, within } from '#host';
import type { Waiting } from '#spec';
import { type DnsQuestion, encodeForwarded, isRefusal, isReplyTo } from './message.ts';
import { readMessages, writeMessage } from './stream.ts';

export type Transport = 'udp' | 'tcp';

const port = 53;
// A guest's own resolver waits 5 s (resolv.conf) before it asks again: by then the second server has been tried.
const eachMs = 2000;
const maxServers = 3;
const ids = 0x10000;
// One that did not answer is tried last for so long.
const avoidedMs = 30_000;

/**
 * Asks other name servers. Each question has a socket of its own, hence a source port that the kernel draws, and a random
 * id; only a reply from the server's address with the id and the question is taken (RFC 5452).
 */
export class Forwarder {
  readonly #port: number;
  readonly #failedAtMs = new Map<string, number>();

  constructor({ serverPort = port }: { readonly serverPort?: number } = {}) {
    this.#port = serverPort;
  }

  /** The first reply that is no refusal, else the last one; undefined when no server replied. */
  async ask(
    question: DnsQuestion,
    { servers, transport }: { readonly servers: readonly string[]; readonly transport: Transport },
    waiting: Waiting,
  ): Promise<Buffer | undefined> {
    let refusal: Buffer | undefined;
    for (const server of this.#inOrder(servers)) {
      const reply = await this.#askOne(question, { server, transport }, waiting);
      if (reply !== undefined && !isRefusal(reply)) return reply;
      refusal = reply ?? refusal;
      if (waiting.signal.aborted) break;
    }
    return refusal;
  }

  async #askOne(
    question: DnsQuestion,
    { server, transport }: { readonly server: string; readonly transport: Transport },
    waiting: Waiting,
  ): Promise<Buffer | undefined> {
    using limited = within(eachMs, waiting);
    const target = { server, port: this.#port };
    try {
      const reply = await (transport === 'udp' ? overUdp : overTcp)(question, target, limited);
      this.#failedAtMs.delete(server);
      return reply;
    } catch {
      // Unreachable, silent, or without sense: the next one is asked.
      if (!waiting.signal.aborted) this.#failedAtMs.set(server, performance.now());
      return undefined;
    }
  }

  #inOrder(servers: readonly string[]): readonly string[] {
    const now = performance.now();
    const failed = (server: string): boolean =>
      now - (this.#failedAtMs.get(server) ?? Number.NEGATIVE_INFINITY) < avoidedMs;
    const sorted = [...servers.filter((each) => !failed(each)), ...servers.filter(failed)];
    return sorted.slice(0, maxServers);
  }
}

interface Target {
  readonly server: string;
  readonly port: number;
}

async function overUdp(
  question: DnsQuestion,
  { server, port: to }: Target,
  waiting: Waiting,
): Promise<Buffer> {
  const id = randomInt(ids);
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const socket = createSocket(isIPv6(server) ? 'udp6' : 'udp4');
  socket.on('error', reject);
  socket.on('message', (message) => {
    if (isReplyTo(message, question, id)) resolve(message);
  });
  try {
    // Connected: the kernel drops what comes from elsewhere and reports that nothing listens there.
    socket.connect(to, server, (error?: Error) => {
      if (error !== undefined) return reject(error);
      socket.send(encodeForwarded(question, id), (failure) => failure && reject(failure));
    });
    return await abortable(promise, waiting);
  } finally {
    socket.close();
  }
}

async function overTcp(
  question: DnsQuestion,
  { server, port: to }: Target,
  { signal }: Waiting,
): Promise<Buffer> {
  const id = randomInt(ids);
  const socket = connect({ host: server, port: to, signal });
  // What reads or writes gets the error; there must be a listener all the same.
  socket.on('error', () => {});
  try {
    await writeMessage(socket, encodeForwarded(question, id));
    for await (const message of readMessages(socket)) {
      if (isReplyTo(message, question, id)) return message;
      break;
    }
    throw new Error(`name server ${server} sent no reply to the question`);
  } finally {
    socket.destroy();
  }
}
