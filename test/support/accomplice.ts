import { closeFd, openTap } from '#host';
import { received, send, type TcpFrame, tcpFrame } from '../net/frames.ts';
import { must } from './guest.ts';

export const accompliceIp = '192.0.2.9';
const mac = '02:00:00:00:00:09';

export interface Segment extends Omit<TcpFrame, 'mac' | 'sequence' | 'acknowledged'> {
  readonly sequence: number;
}

/** What a TCP segment says; undefined for other frames. */
export function segmentOf(frame: Buffer): Segment | undefined {
  if (frame.readUInt16BE(12) !== 0x0800 || frame[23] !== 6) return undefined;
  const flags = named[frame[47] ?? 0];
  if (flags === undefined) return undefined;
  const address = (at: number): string => frame.subarray(at, at + 4).join('.');
  return {
    ip: [address(26), address(30)],
    port: [frame.readUInt16BE(34), frame.readUInt16BE(36)],
    flags,
    sequence: frame.readUInt32BE(38),
  };
}

const named: Readonly<Record<number, TcpFrame['flags']>> = {
  2: 'syn',
  18: 'syn-ack',
  16: 'ack',
  17: 'fin-ack',
};

/** The other end's next segment of a connection that is opened or closed; undefined where it has nothing to send. */
export function answerTo({
  ip,
  port,
  flags,
  sequence,
}: Segment): Omit<TcpFrame, 'mac'> | undefined {
  if (flags === 'ack') return undefined;
  const back = { ip: [ip[1], ip[0]], port: [port[1], port[0]] } as const;
  const acknowledged = sequence + 1;
  if (flags === 'syn') return { ...back, flags: 'syn-ack', sequence: 0, acknowledged };
  return { ...back, flags: flags === 'fin-ack' ? 'fin-ack' : 'ack', sequence: 1, acknowledged };
}

/** A machine outside that keeps no state, on a link of the host: whoever opens a connection is answered. */
export class Accomplice implements Disposable {
  readonly #fd: number;
  readonly #hostMac: string;

  private constructor(fd: number, hostMac: string) {
    this.#fd = fd;
    this.#hostMac = hostMac;
  }

  static async open(): Promise<Accomplice> {
    const { fd } = await openTap('out0');
    await must('ip', 'addr', 'add', '192.0.2.1/24', 'dev', 'out0');
    await must('ip', 'link', 'set', 'out0', 'up');
    await must('ip', 'neigh', 'add', accompliceIp, 'lladdr', mac, 'dev', 'out0');
    return new Accomplice(fd, await macOf('out0'));
  }

  send(segment: Omit<TcpFrame, 'mac'>): void {
    send(this.#fd, tcpFrame({ ...segment, mac: [mac, this.#hostMac] }));
  }

  /** Every segment that has come until now is answered; how many frames there were. */
  answer(): number {
    const frames = received(this.#fd);
    for (const frame of frames) {
      const segment = segmentOf(frame);
      const answer = segment && answerTo(segment);
      if (answer !== undefined) this.send(answer);
    }
    return frames.length;
  }

  [Symbol.dispose](): void {
    closeFd(this.#fd);
  }
}

export async function macOf(link: string): Promise<string> {
  return /ether (\S+)/.exec(await must('ip', '-o', 'link', 'show', link))?.[1] ?? '';
}
