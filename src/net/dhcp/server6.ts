import { createSocket, type Socket } from 'node:dgram';
import { type Logger, udpSocket } from '#host';
import { formatIpv6 } from '#spec';
import { adoptDatagrams, closeSocket } from '../links/adopt-socket.ts';
import { netError } from '../model/error.ts';
import { answer6 } from './answer6.ts';
import type { Guests6 } from './guests6.ts';
import { decodeQuery6, encodeReply6 } from './message6.ts';
import { inNetns } from './netns.ts';
import { type Network6, recipientsOf, senderOf } from './network6.ts';

export interface Server6Options {
  /** The link that queries come from. */
  readonly bridge: string;
  /** Path of the link's network namespace; this process's own when left out. */
  readonly netns?: string;
  readonly network: Network6;
  readonly guests: Pick<Guests6, 'of'>;
  readonly log: Logger;
}

const serverPort = 547;
const clientPort = 546;
const allServers = 'ff02::1:2';
// More than guests send at once in normal operation. The rest is dropped, and clients retransmit.
const maxPending = 64;

/**
 * The DHCPv6 responder of one bridge: it answers guests, which it knows by the link-local address that they send from, and
 * ignores all others. It keeps no state, so two on the same bridge (an ending plugin and its successor) do not conflict.
 */
export class Dhcp6Server implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #options: Server6Options;
  #pending = 0;
  #closed = false;
  #failed = false;

  private constructor(socket: Socket, options: Server6Options) {
    this.#socket = socket;
    this.#options = options;
  }

  static async open(options: Server6Options): Promise<Dhcp6Server> {
    const { bridge, netns, log } = options;
    const socket = createSocket('udp6');
    const server = new Dhcp6Server(socket, options);
    socket.on('message', (datagram, { address }) => void server.#receive(datagram, address));
    try {
      await bind(socket, bridge, netns);
    } catch (cause) {
      await server[Symbol.asyncDispose]();
      throw netError(`opening the DHCPv6 port on bridge ${bridge} failed`, cause);
    }
    socket.on('error', (error) => {
      server.#failed = true;
      log.warn('DHCPv6 socket failed', { bridge, error });
    });
    // A responder alone does not keep the plugin alive.
    socket.unref();
    return server;
  }

  /** Whether its socket has failed. */
  get failed(): boolean {
    return this.#failed;
  }

  async #receive(datagram: Uint8Array, from: string): Promise<void> {
    if (this.#pending >= maxPending) return;
    this.#pending += 1;
    const { bridge, log } = this.#options;
    try {
      await this.#reply(datagram, from);
    } catch (error) {
      log.warn('answering a DHCPv6 query failed', { bridge, error });
    } finally {
      this.#pending -= 1;
    }
  }

  async #reply(datagram: Uint8Array, from: string): Promise<void> {
    const { guests, network, bridge, log } = this.#options;
    const query = decodeQuery6(datagram);
    if (query === undefined) return;
    const asker = senderOf(from);
    const claim = await guests.of(asker);
    if (claim === undefined) return;
    const reply = answer6(query, claim, network);
    if (reply === undefined || this.#closed) return;
    // A guest that is gone by now is no error of ours. The socket is tied to the link of the address.
    for (const to of recipientsOf(asker, claim)) {
      this.#socket.send(encodeReply6(reply), clientPort, formatIpv6(to), () => {});
    }
    log.debug('DHCPv6 reply', { bridge, vm: claim.vm, query: query.type, reply: reply.type });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await closeSocket(this.#socket);
  }
}

async function bind(socket: Socket, bridge: string, netns?: string): Promise<void> {
  const options = { device: bridge, address: '::', port: serverPort, broadcast: false };
  await adoptDatagrams(
    socket,
    inNetns(netns, () => udpSocket(options)),
  );
  inNetns(netns, () => socket.addMembership(allServers, `::%${bridge}`));
}
