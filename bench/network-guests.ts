import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { dirname } from 'node:path';
import { guestImage } from '../scripts/guests/images.ts';
import { guestSpec, port, remoteShell, runIn, told } from '../test/support/live-vm.ts';
import { virbr0 } from '../test/support/networks.ts';
import { soon, VmGround } from '../test/support/vm.ts';
import { ip } from './network-setup.ts';

/** `plain`: a bridge made by hand, with no rule of the driver's. */
export type Path = 'plain' | 'managed' | 'published';

const plain = 'plain0';
const MB = 1_000_000;
const bytes = 8 * MB;
const echoPort = 7777;
const roundTrips = 100;
const hostAddress = '192.0.2.1';

/** Two guests of two CPUs, each on a managed network and on a plain bridge. The second one has two queues. */
export class GuestPair implements AsyncDisposable {
  readonly #ground: VmGround;
  readonly #managed: readonly string[];

  private constructor(ground: VmGround, managed: readonly string[]) {
    this.#ground = ground;
    this.#managed = managed;
  }

  static async open(): Promise<GuestPair> {
    const guest = await guestImage('tiny');
    ip('link', 'set', 'lo', 'up');
    ip('addr', 'add', `${hostAddress}/32`, 'dev', 'lo');
    ip('link', 'add', plain, 'type', 'bridge');
    ip('addr', 'add', '10.66.1.1/24', 'dev', plain);
    ip('link', 'set', plain, 'up');
    const ground = VmGround.open({
      managedNetworks: [virbr0],
      bridges: [plain],
      imagePaths: [dirname(guest.path)],
    });
    const virtualizer = ground.virtualizer();
    const file = `dd if=/dev/zero of=/www/zeros bs=${MB} count=${bytes / MB} 2>/dev/null`;
    const addresses: string[] = [];
    for (const index of [0, 1]) {
      const pipes = ground.pipes(`vm-${index}`);
      const log = ground.read(pipes.stdoutPath);
      const base = guestSpec(ground, guest, pipes);
      const domain = await virtualizer.createDomain(
        {
          ...base,
          name: `vm-${index}`,
          vcpus: 2,
          memoryMiB: 256,
          guest: { ...base.guest, userData: { kind: 'inline', text: remoteShell(file) } },
          nics: [
            {
              kind: 'bridge',
              bridge: 'virbr0',
              ports: [port('http', 8080 + index, 80), port('echo', 7000 + index, echoPort)],
              queues: index + 1,
            },
            {
              kind: 'bridge',
              bridge: plain,
              ports: [],
              ip: plainAddress(index),
              fixed: { prefix: 24, nameservers: [] },
            },
          ],
        },
        soon(),
      );
      await told(log, /TINY-READY/, 120_000);
      addresses.push(domain.network?.ip ?? '');
    }
    return new GuestPair(ground, addresses);
  }

  /** MB per second from the first guest to the host. */
  async toHost(path: Path): Promise<number> {
    return await perSecond(bytes, () => fetched(this.#http(0, path)));
  }

  /** MB per second from the second guest to the first. */
  async toGuest(path: Path): Promise<number> {
    const script = `wget -q -O /dev/null http://${this.#http(1, path)}/zeros && echo done`;
    return await perSecond(bytes, async () => assert.equal(await this.#run(0, script), 'done'));
  }

  /** MB per second of two transfers at once, from the guest that has so many queues. */
  async twoStreams(queues: 1 | 2): Promise<number> {
    const from = this.#http(queues - 1, 'managed');
    return await perSecond(2 * bytes, () => Promise.all([fetched(from), fetched(from)]));
  }

  /** Milliseconds of a datagram from the host to the first guest and back. */
  async roundTrip(path: Path): Promise<number> {
    await using socket = createSocket('udp4');
    const [host, target] =
      path === 'published' ? [hostAddress, 7000] : [this.#at(0, path), echoPort];
    socket.connect(target, host);
    await once(socket, 'connect');
    const began = performance.now();
    for (let count = 0; count < roundTrips; count += 1) {
      const answered = once(socket, 'message', { signal: AbortSignal.timeout(10_000) });
      socket.send('?');
      await answered;
    }
    return (performance.now() - began) / roundTrips;
  }

  /** Milliseconds, on average, as the first guest measures them. */
  async ping(path: 'plain' | 'managed'): Promise<number> {
    const report = await this.#run(0, `ping -c 20 -i 0.02 -q ${this.#at(1, path)}`);
    const [, average] = /min\/avg\/max = [\d.]+\/([\d.]+)\//.exec(report) ?? [];
    assert.ok(average !== undefined, report);
    return Number(average);
  }

  #run(index: number, script: string): Promise<string> {
    return runIn(this.#http(index, 'managed'), script);
  }

  #http(index: number, path: Path): string {
    return path === 'published' ? `${hostAddress}:${8080 + index}` : this.#at(index, path);
  }

  #at(index: number, path: 'plain' | 'managed'): string {
    return path === 'plain' ? plainAddress(index) : (this.#managed[index] ?? '');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const virtualizer of this.#ground.virtualizers) {
      for (const index of [0, 1]) await virtualizer.destroyDomain(`vm-${index}`);
    }
    await this.#ground[Symbol.asyncDispose]();
    ip('link', 'del', plain);
    ip('addr', 'del', `${hostAddress}/32`, 'dev', 'lo');
  }
}

const plainAddress = (index: number): string => `10.66.1.${index + 2}`;

async function fetched(host: string): Promise<void> {
  const answer = await fetch(`http://${host}/zeros`, { signal: AbortSignal.timeout(60_000) });
  assert.equal((await answer.arrayBuffer()).byteLength, bytes);
}

async function perSecond(total: number, transfer: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await transfer();
  return total / MB / ((performance.now() - began) / 1000);
}
