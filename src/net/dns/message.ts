import { type Answer, decode, encode, type Question } from 'dns-packet';

/** DNS messages as bytes (RFC 1035, EDNS RFC 6891): questions of guests and replies to them. The one user of the codec. */

/** What a guest asks. */
export interface DnsQuestion {
  readonly id: number;
  /** In lower case, without the last dot; '' is the root. */
  readonly name: string;
  readonly type: number;
  /** As the codec has it. */
  readonly asked: Question;
  /** The same as bytes, which a reply must repeat. */
  readonly bytes: Buffer;
  /** The bits that a reply repeats: recursion desired, checking disabled. */
  readonly flags: number;
  /** How large a reply over UDP may be. */
  readonly replyBytes: number;
  /** undefined: the guest does not know EDNS. */
  readonly edns: { readonly dnssec: boolean } | undefined;
}

export const rcode = {
  ok: 0,
  malformed: 1,
  failed: 2,
  unknownName: 3,
  unsupported: 4,
  refused: 5,
} as const;
export type Rcode = (typeof rcode)[keyof typeof rcode];

/** What to do with a message: nothing, to send `reply` at once, or to find an answer to `question`. */
export type Received =
  | { readonly kind: 'ignored' }
  | { readonly kind: 'invalid'; readonly reply: Buffer }
  | { readonly kind: 'question'; readonly question: DnsQuestion };

export const recordType = { a: 1, soa: 6, ptr: 12, aaaa: 28, any: 255 } as const;
const zoneTransfers = [251, 252];
const internet = 1;

const headerBytes = 12;
const plainBytes = 512;
/** No fragments on any path (DNS flag day 2020). */
const ednsBytes = 1232;
// A name of 255 bytes, and options such as cookies.
const maxQuestionBytes = 1024;

const bit = { reply: 0x8000, authoritative: 0x0400, truncated: 0x0200, recursion: 0x0080 };
const opcodeBits = 0x7800;
const repeatedBits = 0x0110;
const dnssecBit = 0x8000;

/**
 * Reads what a guest has sent. Only a message with one question is looked into, with at most the record of EDNS beside it:
 * the codec's work is bounded, whatever a guest writes.
 */
export function decodeQuestion(message: Uint8Array): Received {
  const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
  // A reply is never replied to: two servers would go on without end.
  if (bytes.length < headerBytes || (bytes.readUInt16BE(2) & bit.reply) !== 0) {
    return { kind: 'ignored' };
  }
  const invalid = (code: Rcode): Received => ({ kind: 'invalid', reply: bareReply(bytes, code) });
  if ((bytes.readUInt16BE(2) & opcodeBits) !== 0) return invalid(rcode.unsupported);
  const [questions, answers, authorities, additionals = 0] = [4, 6, 8, 10].map((at) =>
    bytes.readUInt16BE(at),
  );
  const isPlain = questions === 1 && answers === 0 && authorities === 0 && additionals <= 1;
  if (!isPlain || bytes.length > maxQuestionBytes) return invalid(rcode.malformed);
  const question = read(bytes);
  if (question === undefined) return invalid(rcode.malformed);
  const { type, bytes: asked } = question;
  const isClosed = asked.readUInt16BE(asked.length - 2) !== internet;
  if (isClosed || zoneTransfers.includes(type)) return invalid(rcode.refused);
  return { kind: 'question', question };
}

function read(bytes: Buffer): DnsQuestion | undefined {
  try {
    const { questions: [asked] = [], additionals = [] } = decode(bytes);
    if (asked === undefined) return undefined;
    const written = bytesOf(asked);
    // Otherwise the codec read a name that came in another way: with bytes that are no UTF-8, a dot within a label, or a
    // pointer. What is compared as text must be what other servers are asked.
    if (!written.equals(bytes.subarray(headerBytes, headerBytes + written.length))) {
      return undefined;
    }
    const edns = additionals.find((record) => record.type === 'OPT');
    if (additionals.length > 0 && edns === undefined) return undefined;
    const size = Math.min(ednsBytes, edns?.udpPayloadSize ?? plainBytes);
    return {
      id: bytes.readUInt16BE(0),
      name: asked.name.replace(/^\.$/, '').toLowerCase(),
      type: written.readUInt16BE(written.length - 4),
      asked,
      bytes: written,
      flags: bytes.readUInt16BE(2) & repeatedBits,
      replyBytes: Math.max(plainBytes, size),
      edns: edns && { dnssec: (edns.flags & dnssecBit) !== 0 },
    };
  } catch {
    return undefined;
  }
}

function bytesOf(question: Question): Buffer {
  return encode({ questions: [question] }).subarray(headerBytes);
}

/** A reply to what can't be read further than its header. */
function bareReply(bytes: Buffer, code: Rcode): Buffer {
  const reply = Buffer.alloc(headerBytes);
  reply.writeUInt16BE(bytes.readUInt16BE(0), 0);
  const repeated = bytes.readUInt16BE(2) & (repeatedBits | opcodeBits);
  reply.writeUInt16BE(bit.reply | bit.recursion | repeated | code, 2);
  return reply;
}

/** What a zone knows about a question. */
export interface DnsAnswer {
  readonly code: Rcode;
  readonly answers: readonly Answer[];
  readonly authorities: readonly Answer[];
}

/** A reply of our own. */
export function encodeReply(
  question: DnsQuestion,
  { code, answers, authorities }: DnsAnswer,
): Buffer {
  const { asked } = question;
  return encode({
    type: 'response',
    id: question.id,
    flags: bit.authoritative | bit.recursion | question.flags | code,
    questions: [asked],
    answers: answers.map((answer) => ({ ...answer, name: asked.name })),
    authorities: [...authorities],
    additionals: options(question),
  });
}

/** A reply without an answer, such as for a failure. */
export function encodeFailure(question: DnsQuestion, code: Rcode): Buffer {
  return encode({
    type: 'response',
    id: question.id,
    flags: bit.recursion | question.flags | code,
    questions: [question.asked],
    additionals: options(question),
  });
}

/** The question for another server, with an id of its own, and none of the options that a guest may have added. */
export function encodeForwarded(question: DnsQuestion, id: number): Buffer {
  const recursionDesired = 0x0100;
  return encode({
    type: 'query',
    id,
    flags: question.flags | recursionDesired,
    questions: [question.asked],
    additionals: options(question),
  });
}

/** Whether the message is the reply to that question, which was sent with the id. */
export function isReplyTo(message: Buffer, { bytes }: DnsQuestion, id: number): boolean {
  if (message.length < headerBytes + bytes.length) return false;
  const isReply = (message.readUInt16BE(2) & (bit.reply | opcodeBits)) === bit.reply;
  if (!isReply || message.readUInt16BE(0) !== id || message.readUInt16BE(4) !== 1) return false;
  return message.subarray(headerBytes, headerBytes + bytes.length).equals(bytes);
}

/** Whether another server may know better. */
export function isRefusal(reply: Buffer): boolean {
  const code = reply.readUInt16BE(2) & 0x0f;
  return code === rcode.failed || code === rcode.unsupported || code === rcode.refused;
}

/** Another server's reply as one to the guest; its records are the guest's to judge. */
export function asReplyTo({ id }: DnsQuestion, reply: Buffer): Buffer {
  const own = Buffer.from(reply);
  own.writeUInt16BE(id, 0);
  return own;
}

/** The reply, or when it is too large for UDP its header and question, with the mark that makes the guest repeat it over TCP. */
export function fitUdp(question: DnsQuestion, reply: Buffer): Buffer {
  if (reply.length <= question.replyBytes) return reply;
  const cut = Buffer.concat([reply.subarray(0, headerBytes), question.bytes]);
  cut.writeUInt16BE(cut.readUInt16BE(2) | bit.truncated, 2);
  cut.writeUInt16BE(1, 4);
  cut.fill(0, 6, headerBytes);
  return cut;
}

function options({ edns }: DnsQuestion): Answer[] {
  if (edns === undefined) return [];
  return [
    {
      type: 'OPT',
      name: '.',
      udpPayloadSize: ednsBytes,
      extendedRcode: 0,
      ednsVersion: 0,
      flags: edns.dnssec ? dnssecBit : 0,
      flag_do: edns.dnssec,
      options: [],
    },
  ];
}
