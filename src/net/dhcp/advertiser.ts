import type { Socket } from 'node:dgram';
import { icmp6Port, icmp6Socket, type Logger } from '#host';
import { formatIpv6 } from '#spec';
import { closeSocket } from '../links/adopt-socket.ts';
import { netError } from '../model/error.ts';
import type { Claim } from '../store/claim.ts';
import { encodeAdvertisement, routerSolicitation } from './advertisement.ts';
import type { Guests6 } from './guests6.ts';
import { inNetns } from './netns.ts';
import { type Network6, recipientsOf, senderOf } from './network6.ts';

export interface AdvertiserOptions {
  readonly bridge: string;
  /** Path of the link's network namespace; this process's own when left out. */
  readonly netns?: string;
  readonly network: Network6;
  readonly guests: Pick<Guests6, 'of' | 'all'>;
  readonly log: Logger;
}

const allRouters = 'ff02::2';
// Far more often than what is announced ends.
const eachMs = 1_800_000;
// RFC 4861, 10: MIN_DELAY_BETWEEN_RAS.
const pauseMs = 3000;
// More than guests send at once in normal operation. The rest is dropped, and guests ask again.
const maxPending = 64;

/**
 * The router advertisements of one bridge, to each guest one of its own: when the guest asks, when the network's settings
 * may have changed, and every half an hour. It keeps no state, as with DHCP.
 */
export class Advertiser implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #options: AdvertiserOptions;
  readonly #timer: NodeJS.Timeout;
  #sentToAllMs = Number.NEGATIVE_INFINITY;
  #pending = 0;
  #closed = false;
  #failed = false;

  private constructor(socket: Socket, options: AdvertiserOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#timer = setInterval(() => void this.#receive('::'), eachMs);
  }

  /** One that has advertised to all guests that there are. */
  static async open(options: AdvertiserOptions): Promise<Advertiser> {
    const { bridge, netns, log } = options;
    let socket: Socket;
    try {
      socket = inNetns(netns, () => icmp6Socket({ device: bridge, type: routerSolicitation }));
    } catch (cause) {
      throw netError(`opening a socket for router advertisements on ${bridge} failed`, cause);
    }
    const advertiser = new Advertiser(socket, options);
    socket.on('message', (_, { address }) => void advertiser.#receive(address));
    socket.on('error', (error) => {
      advertiser.#failed = true;
      log.warn('socket for router advertisements failed', { bridge, error });
    });
    // Neither keeps the plugin alive.
    socket.unref();
    advertiser.#timer.unref();
    inNetns(netns, () => socket.addMembership(allRouters, `::%${bridge}`));
    await advertiser.#receive('::');
    return advertiser;
  }

  /** Whether its socket has failed. */
  get failed(): boolean {
    return this.#failed;
  }

  async #receive(from: string): Promise<void> {
    if (this.#pending >= maxPending) return;
    this.#pending += 1;
    const { bridge, log } = this.#options;
    try {
      await this.#advertise(senderOf(from));
    } catch (error) {
      log.warn('router advertisement failed', { bridge, error });
    } finally {
      this.#pending -= 1;
    }
  }

  /** To the guest with that address. One that has none yet is any of them. */
  async #advertise(asker: bigint): Promise<void> {
    const { guests } = this.#options;
    const claim = await guests.of(asker);
    if (claim !== undefined) {
      for (const each of recipientsOf(asker, claim)) this.#send(each, claim);
      return;
    }
    if (asker !== 0n || performance.now() - this.#sentToAllMs < pauseMs) return;
    this.#sentToAllMs = performance.now();
    for (const [guest, each] of await guests.all()) this.#send(guest, each);
  }

  #send(guest: bigint, claim: Claim): void {
    const { network } = this.#options;
    if (this.#closed) return;
    // A guest that is not there yet, or no longer, is no error: it asks once it is. The socket is tied to the address's link.
    const to = formatIpv6(guest);
    this.#socket.send(encodeAdvertisement(claim, network), icmp6Port, to, () => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    await closeSocket(this.#socket);
  }
}
