import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { test } from 'node:test';
import { closeFd } from '#host';
import { received, send, tcpFrame, udpFrame } from '../net/frames.ts';
import { Accomplice, accompliceIp, answerTo, macOf, segmentOf } from '../support/accomplice.ts';
import { Machine, must } from '../support/guest.ts';
import { until } from '../support/live-vm.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, type TestNic, virbr0 } from '../support/networks.ts';

const max = 1000;
const limited = { maxConnections: max };
const port = { label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 };

/** How many connections the kernel tracks in which that address is one end. */
function tracked(ip: string): number {
  const lines = readFileSync('/proc/net/nf_conntrack', 'utf8').split('\n');
  return lines.filter((line) => line.includes(`=${ip} `)).length;
}

/** A guest that is driven frame by frame. */
class Attacker {
  readonly #nic: TestNic;
  readonly #mac: readonly [own: string, bridge: string];
  readonly ip: string;

  private constructor(nic: TestNic, bridgeMac: string) {
    this.#nic = nic;
    this.#mac = [nic.mac, bridgeMac];
    this.ip = nic.address?.ip ?? '';
  }

  static async open(nic: TestNic): Promise<Attacker> {
    const { address, mac } = nic;
    assert.ok(address !== undefined, 'the NIC has no address');
    await must('ip', 'neigh', 'replace', address.ip, 'lladdr', mac, 'dev', 'virbr0');
    return new Attacker(nic, await macOf('virbr0'));
  }

  /** Opens connections from port `first` on, as far as it is let, and perhaps closes each of them at once. */
  open(outside: Accomplice, count: number, o: { first?: number; close?: boolean } = {}): void {
    const { first = 1024, close = false } = o;
    for (let at = first; at < first + count; at += 100) {
      this.#sendEach(at, { flags: 'syn', sequence: 0, acknowledged: 0 });
      outside.answer();
      this.#sendEach(at, { flags: 'ack', sequence: 1, acknowledged: 1 });
      if (close) {
        this.#sendEach(at, { flags: 'fin-ack', sequence: 1, acknowledged: 1 });
        outside.answer();
        this.#sendEach(at, { flags: 'ack', sequence: 2, acknowledged: 2 });
      }
      outside.answer();
      received(this.#nic.tapFd);
    }
  }

  #sendEach(
    first: number,
    segment: { flags: 'syn' | 'ack' | 'fin-ack'; sequence: number; acknowledged: number },
  ): void {
    for (let from = first; from < first + 100; from++) {
      const ends = { ip: [this.ip, accompliceIp], port: [from, 7000] } as const;
      send(this.#nic.tapFd, tcpFrame({ mac: this.#mac, ...ends, ...segment }));
    }
  }

  /** Accepts whatever connection is opened to it. */
  accept(): void {
    for (const frame of received(this.#nic.tapFd)) {
      const segment = segmentOf(frame);
      const answer = segment && answerTo(segment);
      if (answer !== undefined) send(this.#nic.tapFd, tcpFrame({ mac: this.#mac, ...answer }));
    }
  }

  sendDatagram(to: string, ports: readonly [number, number]): void {
    send(this.#nic.tapFd, udpFrame({ mac: this.#mac, ip: [this.ip, to], port: ports }));
  }

  unplug(): void {
    closeFd(this.#nic.tapFd);
  }
}

/** How many of ten connections that the host opens to itself succeed. */
async function opensOverLoopback(): Promise<number> {
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port: own } = server.address() as AddressInfo;
  let opened = 0;
  for (let each = 0; each < 10; each++) {
    const socket = connect(own, '127.0.0.1');
    const signal = AbortSignal.timeout(2000);
    opened += await once(socket, 'connect', { signal }).then(
      () => 1,
      () => 0,
    );
    socket.destroy();
  }
  server.close();
  return opened;
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat', 'busybox'], () => {
  test('V-117: connections that a guest opens and keeps are bounded, also across a change of the rules', async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    using outside = await Accomplice.open();
    await using host = await Host.open([virbr0], limited);
    const guest = await Attacker.open(await host.attach('web'));
    guest.open(outside, 3 * max);
    assert.ok(tracked(guest.ip) >= max, `${tracked(guest.ip)} of ${max} are open`);
    assert.ok(tracked(guest.ip) <= max, `${tracked(guest.ip)} connections of one guest`);
    const other = await host.attach('other');
    guest.open(outside, 3 * max, { first: 20_000 });
    assert.ok(tracked(guest.ip) <= max, `${tracked(guest.ip)} after the rules were made anew`);
    assert.equal(await opensOverLoopback(), 10);
    guest.unplug();
    closeFd(other.tapFd);
    await host.detach('web');
    await host.detach('other');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-117: connections that a guest opens and closes are bounded, too', async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    using outside = await Accomplice.open();
    await using host = await Host.open([virbr0], limited);
    const guest = await Attacker.open(await host.attach('web'));
    const since = performance.now();
    guest.open(outside, 8 * max, { close: true });
    // As many at once as it may have, then a tenth each second, each of them tracked for ten seconds.
    const most = 2 * max + (max / 10) * Math.min(10, (performance.now() - since) / 1000);
    assert.ok(
      tracked(guest.ip) <= most,
      `${tracked(guest.ip)} connections of one guest, not ${most}`,
    );
    assert.equal(await opensOverLoopback(), 10);
    guest.unplug();
    await host.detach('web');
  });

  test('V-117: connections to a published port of a guest are bounded, and do not use up its own', async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    using outside = await Accomplice.open();
    await using host = await Host.open([virbr0], limited);
    const guest = await Attacker.open(await host.attach('web', { ports: [port] }));
    for (let at = 1024; at < 1024 + 3 * max; at += 100) {
      for (const flags of ['syn', 'ack'] as const) {
        const sequence = flags === 'syn' ? 0 : 1;
        for (let from = at; from < at + 100; from++) {
          const ends = { ip: [accompliceIp, '192.0.2.1'], port: [from, 8080] } as const;
          outside.send({ ...ends, flags, sequence, acknowledged: sequence });
        }
        guest.accept();
        outside.answer();
      }
    }
    const entered = tracked(guest.ip);
    assert.ok(entered >= max && entered <= max, `${entered} connections to one guest`);
    guest.open(outside, 100);
    assert.ok(tracked(guest.ip) >= entered + 100, `${tracked(guest.ip) - entered} of its own`);
    guest.unplug();
    await host.detach('web');
  });

  test('V-117: connections of a guest to the host itself are bounded', async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    await using host = await Host.open([{ ...virbr0, hostAccess: 'open' }], limited);
    const guest = await Attacker.open(await host.attach('web'));
    for (let from = 1024; from < 1024 + 3 * max; from++) {
      guest.sendDatagram('192.168.122.1', [from, 53]);
    }
    assert.ok(tracked(guest.ip) <= max, `${tracked(guest.ip)} connections of one guest`);
    guest.unplug();
    await host.detach('web');
  });

  test('a long stream, fragments and errors of the network pass a guest with few connections', async () => {
    await using outside = await Machine.outside({
      link: 'out0',
      hostAddress: '192.0.2.1',
      address: accompliceIp,
    });
    await using host = await Host.open([virbr0], { maxConnections: 16 });
    const nic = await host.attach('web');
    const sender = await Attacker.open(nic);
    const sentTo = async (): Promise<number> => {
      const said = await outside.namespace.run('ip', '-s', '-j', 'link', 'show', 'out0p');
      return JSON.parse(said)[0].stats64.rx.packets;
    };
    // The host finds the neighbour with the first one, and keeps only some that come meanwhile.
    const idle = await sentTo();
    sender.sendDatagram(accompliceIp, [4000, 9]);
    await until(sentTo, (packets) => packets > idle, 5000);
    const before = await sentTo();
    // One way only: for conntrack each packet of it is new, and nobody listens there.
    for (let each = 0; each < 500; each++) sender.sendDatagram(accompliceIp, [4000, 9]);
    assert.ok((await sentTo()) - before >= 500, `${(await sentTo()) - before} of 500 passed`);
    const isError = (frame: Buffer): boolean => frame[23] === 1 && frame[34] === 3;
    assert.ok(received(nic.tapFd).some(isError), 'the guest is told that nobody listens');
    await using guest = await Machine.guest(nic);
    await guest.configure(nic.address);
    await guest.namespace.run('busybox', 'ping', '-c1', '-W2', '-s4000', accompliceIp);
    await guest.unplug();
    await host.detach('web');
  });

  test("V-117: a guest has the host look for few of the neighbours on the host's own links at once", async () => {
    using _ = await Accomplice.open();
    await must('ip', 'addr', 'add', '198.18.0.1/16', 'dev', 'out0');
    await using host = await Host.open();
    const guest = await Attacker.open(await host.attach('web'));
    await must('ip', 'route', 'add', '203.0.113.0/24', 'via', accompliceIp);
    guest.sendDatagram('203.0.113.1', [4000, 9]);
    const since = performance.now();
    for (let each = 0; each < 500; each++) {
      guest.sendDatagram(`198.18.${1 + (each >> 8)}.${each & 255}`, [4000, 9]);
    }
    const most = 201 + (20 * (performance.now() - since)) / 1000;
    const found = (await must('ip', 'neigh', 'show', 'dev', 'out0')).match(/^198\.18/gm) ?? [];
    assert.ok(
      found.length >= 190 && found.length <= most,
      `${found.length} neighbours, not ${most}`,
    );
    // Those behind a router that it knows are none.
    for (let each = 0; each < 200; each++) guest.sendDatagram(`203.0.113.${each}`, [4001, 9]);
    assert.ok(tracked(guest.ip) >= found.length + 150, `${tracked(guest.ip)} connections`);
    guest.unplug();
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-117: a guest has the host look for no neighbour that is not there', async () => {
    const wide = { ...virbr0, address: '10.20.0.1', prefix: 22 };
    await using host = await Host.open([wide]);
    const guest = await Attacker.open(await host.attach('web'));
    const peer = await host.attach('peer');
    const found = async (): Promise<readonly string[]> =>
      (await must('ip', 'neigh', 'show', 'dev', 'virbr0')).split('\n').filter(Boolean);
    for (let each = 0; each < 300; each++) {
      guest.sendDatagram(`10.20.${1 + (each >> 8)}.${each & 255}`, [4000, 9]);
    }
    // The guest itself may be among them: it is told that there is no such host.
    assert.deepEqual(
      (await found()).filter((line) => !line.startsWith(`${guest.ip} `)),
      [],
    );
    guest.sendDatagram(peer.address?.ip ?? '', [4000, 9]);
    assert.ok((await found()).some((line) => line.startsWith(`${peer.address?.ip} `)));
    guest.unplug();
    closeFd(peer.tapFd);
    await host.detach('web');
    await host.detach('peer');
    assert.deepEqual(await leftovers(), nothing);
  });
});
