import { createSocket, type RemoteInfo } from 'node:dgram';
import { createServer, isIPv6 } from 'node:net';
import { decode, encode, type Packet, streamDecode, streamEncode } from 'dns-packet';

const lateMs = 700;

/** A question that has arrived. */
interface Asked {
  readonly id: number;
  readonly name: string;
  readonly port: number;
  readonly transport: 'udp' | 'tcp';
}

/**
 * A name server somewhere else, in this process, at port 53 of an address: it answers each name with `data`, and those
 * that begin with `large` with more than fits a datagram. Names that begin with `silent` get no answer, and over UDP those
 * that begin with `slow` get it late.
 */
export async function nameServer(
  address: string,
  data = '198.51.100.7',
): Promise<AsyncDisposable & { readonly asked: readonly Asked[] }> {
  const asked: Asked[] = [];
  const udp = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  const reply = (query: Packet, from: Pick<Asked, 'port' | 'transport'>): Packet | undefined => {
    const [question] = query.questions ?? [];
    if (question === undefined) return undefined;
    const { name } = question;
    asked.push({ id: query.id ?? 0, name, ...from });
    if (name.startsWith('silent')) return undefined;
    const head: Packet = { type: 'response', id: query.id, questions: [question] };
    const many = name.startsWith('large');
    if (many && from.transport === 'udp') return { ...head, flags: 0x0200 };
    const answers = Array.from(
      { length: many ? 60 : 1 },
      () => ({ name, type: 'A', data }) as const,
    );
    return { ...head, flags: 0x0080, answers };
  };
  udp.on('message', (message: Buffer, from: RemoteInfo) => {
    const packet = reply(decode(message), { port: from.port, transport: 'udp' });
    if (packet === undefined) return;
    const send = (): void => udp.send(encode(packet), from.port, from.address);
    if (packet.questions?.[0]?.name.startsWith('slow')) setTimeout(send, lateMs);
    else send();
  });
  const tcp = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (bytes) => {
      const query = streamDecode(bytes);
      const packet = reply(query, { port: socket.remotePort ?? 0, transport: 'tcp' });
      if (packet !== undefined) socket.end(streamEncode(packet));
    });
  });
  await new Promise<void>((resolve) => udp.bind(53, address, resolve));
  await new Promise<void>((resolve) => tcp.listen(53, address, resolve));
  return {
    asked,
    [Symbol.asyncDispose]: async () => {
      await new Promise<void>((resolve) => udp.close(() => resolve()));
      await new Promise((resolve) => tcp.close(resolve));
    },
  };
}
