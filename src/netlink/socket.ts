import { getSystemErrorName } from 'node:util';
import { withNetns } from '#host';
import type { Waiting } from '#spec';
import { NetlinkError } from './error.ts';
import {
  decodeMessages,
  encodeMessage,
  flag,
  type Message,
  messageType,
  statusOf,
} from './message.ts';

/** A request to the kernel. `what` names it in errors: "create bridge virbr0". */
export interface NetlinkRequest {
  readonly what: string;
  readonly type: number;
  readonly flags: number;
  readonly body: Uint8Array;
  /** Maximum messages of the answer that are kept; the rest is dropped. All of them when left out. */
  readonly maxMessages?: number;
  /** Which of the messages those are. */
  readonly keeps?: (message: Message) => boolean;
  /** Bodies of more such messages, which are sent ahead of this one. Whether they succeeded is not reported. */
  readonly ahead?: readonly Uint8Array[];
}

export interface NetlinkOptions {
  /** Path of a network namespace, such as /run/netns/x; this process's own when left out. */
  readonly netns?: string;
  /** The part of the kernel: links and addresses (`route`, the default), or connection tracking (`netfilter`). */
  readonly family?: keyof typeof families;
}

/** The part of the package's raw socket that is used. */
interface RawSocket {
  send(bytes: Uint8Array, options: object, done: (error?: Error) => void): void;
  close(): void;
  ref(): void;
  unref(): void;
  on(event: 'message', listener: (datagram: Buffer) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

interface Pending {
  readonly sequence: number;
  readonly what: string;
  readonly messages: Message[];
  readonly maxMessages: number;
  readonly keeps: (message: Message) => boolean;
  interrupted: boolean;
  readonly settle: (outcome: NetlinkError | undefined) => void;
}

// NETLINK_ROUTE and NETLINK_NETFILTER (linux/netlink.h).
const families = { route: 0, netfilter: 12 } as const;
// No request has this number, so answers to it are ignored.
const ignoredSequence = 0;
// A dump during which something changed is repeated, but not endlessly on a host that changes all the time.
const maxDumpAttempts = 8;

/**
 * A netlink socket of one network namespace. Only the package's lowest layer is used, because its upper one turns
 * the kernel's errno into text and never settles requests that are pending at close.
 */
export class NetlinkSocket implements AsyncDisposable {
  readonly #raw: RawSocket;
  #sequence = 1;
  #pending: Pending | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(raw: RawSocket) {
    this.#raw = raw;
    raw.on('message', (datagram) => this.#receive(datagram));
    raw.on('error', (error) => this.#close(error));
    raw.unref();
  }

  /** Throws NetlinkError. */
  static async open({ netns, family = 'route' }: NetlinkOptions = {}): Promise<NetlinkSocket> {
    // On first use: two of the three instances that Nomad starts never need it. Only the file with the socket itself: the
    // package's main file loads every protocol that it supports, and takes 22 ms instead of 3.
    const { RawNetlinkSocket } = await import('netlink/dist/raw.js');
    const make = (): RawSocket => new RawNetlinkSocket(families[family]);
    try {
      return new NetlinkSocket(netns === undefined ? make() : withNetns(netns, make));
    } catch (cause) {
      throw new NetlinkError(`opening a netlink socket (${family}) failed`, { cause });
    }
  }

  /** Whether it can't be used any more, because it was closed here or because it failed. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Sends one request and waits for its whole answer. */
  async request(request: NetlinkRequest, waiting: Waiting): Promise<readonly Message[]> {
    for (let attempt = 1; ; attempt++) {
      const { messages, interrupted } = await this.#enqueue(request, waiting);
      if (!interrupted) return messages;
      if (attempt === maxDumpAttempts) {
        throw new NetlinkError(`${request.what}: changed during each of ${attempt} reads`);
      }
    }
  }

  /**
   * One at a time: the kernel answers a second dump on a socket with EBUSY (netlink_dump_start). The call of an
   * aborted signal ends at once, but the next request still waits until the kernel has finished the abandoned one.
   */
  #enqueue(request: NetlinkRequest, waiting: Waiting): Promise<Pending> {
    const turn = this.#queue.then(() => {
      waiting.signal.throwIfAborted();
      return this.#exchange(request);
    });
    this.#queue = turn.catch(() => undefined);
    return abortable(turn, waiting.signal);
  }

  #exchange({
    what,
    type,
    flags,
    body,
    maxMessages,
    keeps = () => true,
    ahead = [],
  }: NetlinkRequest): Promise<Pending> {
    const { promise, resolve, reject } = Promise.withResolvers<Pending>();
    if (this.#closed) throw new NetlinkError(`${what}: the netlink socket is closed`);
    const sequence = this.#sequence;
    this.#sequence = (sequence + 1) >>> 0 || 1;
    const pending: Pending = {
      sequence,
      what,
      messages: [],
      maxMessages: maxMessages ?? Number.POSITIVE_INFINITY,
      keeps,
      interrupted: false,
      settle: (error) => {
        this.#pending = undefined;
        if (!this.#closed) this.#raw.unref();
        if (error === undefined) resolve(pending);
        else reject(error);
      },
    };
    this.#pending = pending;
    this.#raw.ref();
    const each = { type, flags: flags | flag.request };
    const bytes = [
      ...ahead.map((other) => encodeMessage({ ...each, sequence: ignoredSequence, body: other })),
      encodeMessage({ ...each, flags: each.flags | flag.ack, sequence, body }),
    ];
    this.#raw.send(Buffer.concat(bytes), {}, (cause) => {
      if (cause === undefined || this.#pending !== pending) return;
      pending.settle(new NetlinkError(`${what}: sending failed`, { cause }));
    });
    return promise;
  }

  #receive(datagram: Uint8Array): void {
    for (const message of decodeMessages(datagram)) {
      const pending = this.#pending;
      if (pending === undefined || message.sequence !== pending.sequence) continue;
      if ((message.flags & flag.dumpInterrupted) !== 0) pending.interrupted = true;
      if (message.type === messageType.error || message.type === messageType.done) {
        const status = statusOf(message);
        pending.settle(status < 0 ? refusal(pending.what, status) : undefined);
      } else if (pending.messages.length < pending.maxMessages && pending.keeps(message)) {
        pending.messages.push(message);
      }
    }
  }

  #close(cause?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#raw.close();
    const what = this.#pending?.what ?? '';
    this.#pending?.settle(new NetlinkError(`${what}: the netlink socket was closed`, { cause }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
  }
}

function refusal(what: string, status: number): NetlinkError {
  const errno = getSystemErrorName(status);
  return new NetlinkError(`${what}: ${errno}`, { errno });
}

/** The same promise, but rejected as soon as the signal aborts. */
function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  return promise;
}
