/**
 * A guest's questions about names. `dns-ask.ts <udp|tcp> <server[:port]> <ms> <name/type>...` prints a line for each: the reply's
 * code and data, `cut` where the rest is to be had over TCP, or what went wrong.
 */
import { createSocket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';
import {
  type DecodedPacket,
  decode,
  encode,
  type Packet,
  type RecordType,
  streamDecode,
  streamEncode,
} from 'dns-packet';

const [transport = '', where = '', ms = '', ...questions] = process.argv.slice(2);
const [, server = where, port = '53'] = isIPv6(where)
  ? []
  : (/^\[?([^\]]+?)\]?:(\d+)$/.exec(where) ?? []);
const isType = (text: string): text is RecordType => /^[A-Z]+$/.test(text);
for (const [at, text] of questions.entries()) {
  const [name = '', type = 'A'] = text.split('/');
  if (!isType(type)) throw new Error(`no type of records: ${type}`);
  const query: Packet = { type: 'query', id: at + 1, flags: 0x0100, questions: [{ name, type }] };
  try {
    const overUdp = async () => decode(await askUdp(encode(query)));
    const overTcp = async () => streamDecode(await askTcp(streamEncode(query)));
    console.log(shown(await (transport === 'udp' ? overUdp() : overTcp())));
  } catch (error) {
    console.log(error instanceof Error && 'code' in error ? error.code : error);
  }
}

function shown(reply: Packet | DecodedPacket): string {
  const data = (reply.answers ?? []).map((each) => ('data' in each ? String(each.data) : ''));
  const cut = 'flag_tc' in reply && reply.flag_tc ? ['cut'] : [];
  return ['rcode' in reply ? String(reply.rcode) : '', ...cut, ...data].join(' ');
}

async function askUdp(query: Buffer): Promise<Buffer> {
  const socket = createSocket(isIPv6(server) ? 'udp6' : 'udp4');
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const timer = setTimeout(() => reject(new Error('no reply')), Number(ms));
  socket.once('message', resolve);
  socket.once('error', reject);
  // Connected, as the C library does it: that nothing listens there is an error at once.
  socket.connect(Number(port), server, (error?: Error) =>
    error ? reject(error) : socket.send(query),
  );
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.close();
  }
}

async function askTcp(query: Buffer): Promise<Buffer> {
  const socket = connect({
    host: server,
    port: Number(port),
    signal: AbortSignal.timeout(Number(ms)),
  });
  socket.write(query);
  let reply = Buffer.alloc(0);
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    reply = Buffer.concat([reply, chunk]);
    if (reply.length >= 2 && reply.length >= 2 + reply.readUInt16BE(0)) break;
  }
  socket.destroy();
  if (reply.length === 0) throw new Error('no reply');
  return reply;
}
