import { printable, quoted } from '#spec';
/** What a server states of an export. `unknown`: it can't be asked, which older servers can't. */
export type NbdExport =
  | { readonly kind: 'known'; readonly bytes: bigint; readonly readOnly: boolean }
  | { readonly kind: 'unknown' };

/** What has to be sent next, and what the server has stated; nothing while the answer is incomplete. */
export interface NbdStep {
  readonly send?: Uint8Array;
  readonly found?: NbdExport;
}

const greeting = Buffer.from('NBDMAGICIHAVEOPT', 'latin1');
/** Of servers without options, which state the size at once. */
const oldGreeting = Buffer.from('NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53', 'latin1');
const replyMark = 0x3e889045565a9n;
const replyHeaderBytes = 20;
/** A size, and texts of at most 4096 bytes. */
const maxReplyBytes = 8192;
const maxReplies = 64;
const maxShown = 200;

const fixedNewStyle = 1;
const noZeroes = 2;
const readOnlyFlag = 2;
const option = { abort: 2, info: 6 } as const;
const reply = { done: 1, info: 3, error: 0x80000000 } as const;
const exportInfo = 0;

interface Reply {
  readonly type: number;
  readonly data: Buffer;
}

/** The protocol's errors, without those that only mean that the server can't be asked so. */
const refusals: Readonly<Record<number, string>> = {
  2: 'refuses it',
  4: 'can not serve it on its platform',
  5: 'demands TLS, which the driver does not have',
  6: 'does not have it',
  7: 'is being shut down',
  9: 'finds its name too long',
};

/**
 * The client's side of an NBD handshake that asks what an export is, and does not take it (NBD_OPT_INFO): one that is served
 * to a single client stays free. Throws Error for bytes that are not NBD, and for a refusal.
 */
export class NbdHandshake {
  readonly #name: string;
  #bytes: Buffer = Buffer.alloc(0);
  #isAsked = false;
  #replies = 0;
  #found: NbdExport = { kind: 'unknown' };

  constructor(name: string) {
    this.#name = name;
  }

  push(chunk: Uint8Array): NbdStep {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    return this.#isAsked ? this.#readReplies() : this.#greet();
  }

  #greet(): NbdStep {
    const start = this.#bytes.subarray(0, greeting.length);
    const begins = (whole: Buffer): boolean => whole.subarray(0, start.length).equals(start);
    if (!begins(greeting) && !begins(oldGreeting))
      throw new Error('what answers there is no NBD server');
    if (this.#bytes.length < greeting.length + 2) return {};
    const flags = this.#bytes.readUInt16BE(greeting.length);
    const canAsk = begins(greeting) && (flags & fixedNewStyle) !== 0;
    if (!canAsk) return { found: this.#found };
    this.#bytes = this.#bytes.subarray(greeting.length + 2);
    this.#isAsked = true;
    const send = Buffer.concat([clientFlags(flags), question(this.#name)]);
    return { ...this.#readReplies(), send };
  }

  #readReplies(): NbdStep {
    for (;;) {
      const next = this.#nextReply();
      if (next === undefined) return {};
      if (this.#isOver(next)) return { send: header(option.abort, 0), found: this.#found };
    }
  }

  #nextReply(): Reply | undefined {
    if (this.#bytes.length < replyHeaderBytes) return undefined;
    const end = replyHeaderBytes + this.#bytes.readUInt32BE(16);
    const isReply = this.#bytes.readBigUInt64BE(0) === replyMark && end <= maxReplyBytes;
    if (!isReply || this.#replies >= maxReplies) {
      throw new Error('what it answers is not NBD');
    }
    if (this.#bytes.length < end) return undefined;
    const type = this.#bytes.readUInt32BE(12);
    const data = this.#bytes.subarray(replyHeaderBytes, end);
    this.#bytes = this.#bytes.subarray(end);
    this.#replies += 1;
    return { type, data };
  }

  #isOver({ type, data }: Reply): boolean {
    if (type >= reply.error) {
      const refusal = refusals[type - reply.error];
      if (refusal !== undefined) throw new Error(refused(this.#name, refusal, data));
      return true;
    }
    if (type === reply.info && data.length >= 12 && data.readUInt16BE(0) === exportInfo) {
      const readOnly = (data.readUInt16BE(10) & readOnlyFlag) !== 0;
      this.#found = { kind: 'known', bytes: data.readBigUInt64BE(2), readOnly };
    }
    return type === reply.done;
  }
}

function clientFlags(serverFlags: number): Buffer {
  const flags = Buffer.alloc(4);
  flags.writeUInt32BE(fixedNewStyle | (serverFlags & noZeroes));
  return flags;
}

function question(name: string): Buffer {
  const text = Buffer.from(name);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  // At the end the number of further facts that are asked for.
  const body = Buffer.concat([length, text, Buffer.alloc(2)]);
  return Buffer.concat([header(option.info, body.length), body]);
}

function header(number: number, bytes: number): Buffer {
  const begin = Buffer.alloc(16);
  greeting.copy(begin, 0, 8);
  begin.writeUInt32BE(number, 8);
  begin.writeUInt32BE(bytes, 12);
  return begin;
}

/** What a server gives as its reason may hold anything. */
function refused(name: string, refusal: string, data: Buffer): string {
  const reason = printable(data.toString('utf8'), maxShown);
  return `asked for the export ${quoted(name)}, it ${refusal}${reason === '' ? '' : `: ${reason}`}`;
}
