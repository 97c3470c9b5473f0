import { getSystemErrorName } from 'node:util';
import {
  abortable,
  closeAside,
  netlinkSocket,
  receive,
  receiveAside,
  sendAside,
  withNetns,
} from '#host';
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

/** What a request is answered with, as far as it has arrived. */
interface Answer {
  readonly messages: Message[];
  /** Something changed meanwhile, or a part did not fit into the buffer. */
  incomplete: boolean;
}

// NETLINK_ROUTE and NETLINK_NETFILTER (linux/netlink.h).
const families = { route: 0, netfilter: 12 } as const;
// No request has this number, so answers to it are ignored.
const ignoredSequence = 0;
// A dump during which something changed is repeated, but not endlessly on a host that changes all the time.
const maxDumpAttempts = 8;

// The kernel makes no longer parts of a dump (netlink_recvmsg), unless a single message is longer.
const usualBytes = 32 * 1024;

/**
 * A netlink socket of one network namespace. The kernel carries out a request while it is sent, and each part of a dump but
 * the first while the one before is received. It may have to wait meanwhile: for the one lock that all changes of links
 * have (RTNL), as long as another program makes it delete links, and for the end of packets under way (RCU). So both are
 * done in a thread of the pool.
 */
export class NetlinkSocket implements AsyncDisposable {
  readonly #fd: number;
  #buffer: Buffer = Buffer.allocUnsafeSlow(usualBytes);
  #sequence = 1;
  #queue: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Throws NetlinkError. */
  static async open({ netns, family = 'route' }: NetlinkOptions = {}): Promise<NetlinkSocket> {
    const make = (): number => netlinkSocket(families[family]);
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
      const { messages, incomplete } = await this.#enqueue(request, waiting);
      if (!incomplete) return messages;
      if (attempt === maxDumpAttempts) {
        throw new NetlinkError(`${request.what}: changed during each of ${attempt} reads`);
      }
    }
  }

  /**
   * One at a time: the kernel answers a second dump on a socket with EBUSY (netlink_dump_start). The call of an
   * aborted signal ends at once, but the next request still waits until the kernel has finished the abandoned one.
   */
  #enqueue(request: NetlinkRequest, waiting: Waiting): Promise<Answer> {
    const turn = this.#queue.then(() => {
      waiting.signal.throwIfAborted();
      return this.#exchange(request);
    });
    this.#queue = turn.catch(() => undefined);
    return abortable(turn, waiting);
  }

  async #exchange(request: NetlinkRequest): Promise<Answer> {
    const { what, flags } = request;
    if (this.#closed) throw new NetlinkError(`${what}: the netlink socket is closed`);
    const sequence = this.#sequence;
    this.#sequence = (sequence + 1) >>> 0 || 1;
    await sendAside(this.#fd, encodeRequest(request, sequence)).catch((cause) => {
      throw new NetlinkError(`${what}: sending failed`, { cause });
    });
    // Whatever else is there to be received is there by now: the kernel was asked, and not another program.
    const isDump = (flags & flag.dump) === flag.dump;
    const answer: Answer = { messages: [], incomplete: false };
    for (;;) {
      if (this.#closed) throw new NetlinkError(`${what}: the netlink socket was closed`);
      const datagram = await this.#receive(what, isDump);
      if (datagram === undefined) answer.incomplete = true;
      else if (take(datagram, { answer, request, sequence })) return answer;
    }
  }

  /** Undefined where the next datagram did not fit into the buffer. The next one of its size does. */
  async #receive(what: string, aside: boolean): Promise<Buffer | undefined> {
    const into = this.#buffer;
    let bytes: number | undefined;
    try {
      bytes = aside ? await receiveAside(this.#fd, into) : receive(this.#fd, into);
    } catch (cause) {
      // What else was lost can't be known (ENOBUFS).
      this.#close();
      throw new NetlinkError(`${what}: receiving failed`, { cause });
    }
    if (bytes === undefined) throw new NetlinkError(`${what}: the kernel gave no answer`);
    if (bytes <= into.length) return Buffer.from(into.subarray(0, bytes));
    this.#buffer = Buffer.allocUnsafeSlow(bytes);
    return undefined;
  }

  /** The descriptor is in use until the kernel has answered. */
  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    void this.#queue.then(() => closeAside(this.#fd));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
  }
}

function encodeRequest(
  { type, flags, body, ahead = [] }: NetlinkRequest,
  sequence: number,
): Buffer {
  const each = { type, flags: flags | flag.request };
  return Buffer.concat([
    ...ahead.map((other) => encodeMessage({ ...each, sequence: ignoredSequence, body: other })),
    encodeMessage({ ...each, flags: each.flags | flag.ack, sequence, body }),
  ]);
}

/** Whether the answer is complete with that datagram. Throws NetlinkError where the kernel refused. */
function take(
  datagram: Uint8Array,
  {
    answer,
    request,
    sequence,
  }: { readonly answer: Answer; readonly request: NetlinkRequest; readonly sequence: number },
): boolean {
  const { what, maxMessages = Number.POSITIVE_INFINITY, keeps = () => true } = request;
  for (const message of decodeMessages(datagram)) {
    if (message.sequence !== sequence) continue;
    if ((message.flags & flag.dumpInterrupted) !== 0) answer.incomplete = true;
    if (message.type === messageType.error || message.type === messageType.done) {
      const status = statusOf(message);
      if (status < 0) throw refusal(what, status);
      return true;
    }
    if (answer.messages.length < maxMessages && keeps(message)) answer.messages.push(message);
  }
  return false;
}

function refusal(what: string, status: number): NetlinkError {
  const errno = getSystemErrorName(status);
  return new NetlinkError(`${what}: ${errno}`, { errno });
}
