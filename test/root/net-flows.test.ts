import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd, findProgram } from '#host';
import { formatIpv6, linkLocalOf } from '#spec';
import { send, udpFrame } from '../net/frames.ts';
import { macOf } from '../support/accomplice.ts';
import { askFromHost, Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, virbr0 } from '../support/networks.ts';
import { patient } from '../support/patience.ts';
import { withLinkLocal } from '../support/six-clients.ts';

const port = (hostIp: string) => ({ label: 'web', hostIp, hostPort: 8080, guestPort: 80 });
const tracked = (): readonly string[] => readFileSync('/proc/net/nf_conntrack', 'utf8').split('\n');
/** As the kernel lists it there. */
const inFull = (address: bigint): string =>
  address
    .toString(16)
    .padStart(32, '0')
    .replace(/.{4}(?=.)/g, '$&:');

/** On a busy machine the first connections would be gone when the last one is opened. */
function rememberLong(): void {
  for (const kind of ['udp_timeout', 'tcp_timeout_close', 'tcp_timeout_time_wait'])
    writeFileSync(`/proc/sys/net/netfilter/nf_conntrack_${kind}`, '600');
}

/** Sends from one socket without ever being idle, as a metrics agent does, and notes who answers. */
class Sender implements AsyncDisposable {
  #heard = '';
  readonly #child: ChildProcess;

  constructor(from: Machine, address: string) {
    const script = `
      const socket = require('node:dgram').createSocket('udp4');
      socket.on('message', (answer) => console.log(String(answer)));
      socket.on('error', () => undefined);
      setInterval(() => socket.send('?', 8080, '${address}', () => undefined), 20);`;
    const args = [`--net=${from.namespace.path}`, '--', process.execPath, '-e', script];
    this.#child = spawn(findProgram('nsenter') ?? 'nsenter', args, {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#heard += text;
    });
  }

  async hears(who: string): Promise<void> {
    this.#heard = '';
    const until = performance.now() + patient(8000);
    while (!this.#heard.includes(`${who} saw`)) {
      assert.ok(performance.now() < until, `${who} is not reached; heard: ${this.#heard}`);
      await sleep(20);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
  }
}

const outsideMachine = () =>
  Machine.outside({ link: 'out0', hostAddress: '192.0.2.1', address: '192.0.2.9' });

async function guestOf(host: Host, vm: string, hostIp: string): Promise<Machine> {
  const nic = await host.attach(vm, { ports: [port(hostIp)] });
  const guest = await Machine.guest(nic);
  await guest.configure(nic.address);
  await guest.serve(80, vm);
  return guest;
}

/** More connections than are looked at one by one. */
async function crowd(address: string): Promise<void> {
  const socket = createSocket('udp4');
  const ports = Array.from({ length: 2000 }, (_, index) => 10_000 + index);
  await Promise.all(
    ports.map((to) => new Promise((resolve) => socket.send('?', to, address, resolve))),
  );
  socket.close();
  assert.ok(tracked().length > 1500, `${tracked().length} connections`);
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat', 'busybox'], () => {
  for (const [hostIp, crowded] of [
    ['192.0.2.1', false],
    ['', false],
    ['', true],
  ] as const) {
    const where = `${hostIp || 'every address'}${crowded ? ' of a busy host' : ''}`;
    test(`V-112 V-115 V-118: a peer that never stops sending to ${where} reaches the VM that has the port now`, async () => {
      await using outside = await outsideMachine();
      await using host = await Host.open();
      await using neighbour = await Machine.guest(await host.attach('neighbour'));
      if (crowded) await crowd('192.0.2.9');
      await using sender = new Sender(outside, '192.0.2.1');
      await sleep(300);
      {
        await using _ = await guestOf(host, 'first', hostIp);
        await sender.hears('first');
      }
      await host.detach('first');
      {
        await using _ = await guestOf(host, 'second', hostIp);
        await sender.hears('second');
      }
      // As after a crash: the VM is gone, and its undo comes later than the next one.
      await using _ = await guestOf(host, 'third', hostIp);
      await sender.hears('third');
      await host.detach('second');
      await sender.hears('third');
      await host.detach('third');
      await neighbour.unplug();
      await host.detach('neighbour');
      assert.deepEqual(await leftovers(), nothing);
    });
  }

  test('V-118: the kernel forgets all connections of a VM that is gone, and no other', async () => {
    await using outside = await outsideMachine();
    await outside.serve(7000, 'outside');
    await using host = await Host.open();
    rememberLong();
    const [web, other] = [
      await host.attach('web', { ports: [port('')] }),
      await host.attach('other'),
    ];
    const [webIp, otherIp] = [web.address?.ip ?? '', other.address?.ip ?? ''];
    await using webGuest = await Machine.guest(web);
    await using otherGuest = await Machine.guest(other);
    await webGuest.configure(web.address);
    await otherGuest.configure(other.address);
    await webGuest.serve(80, 'web');
    for (const protocol of ['tcp', 'udp'] as const) {
      assert.match(await outside.ask(protocol, '192.0.2.1', 8080), /web saw/);
      assert.match(await webGuest.ask(protocol, '192.0.2.9', 7000), /outside saw/);
      assert.match(await otherGuest.ask(protocol, '192.0.2.9', 7000), /outside saw/);
    }
    const of = (ip: string) => tracked().filter((line) => line.includes(`=${ip} `));
    assert.equal(of(webIp).length, 4, of(webIp).join('\n'));
    const kept = of(otherIp).length;
    await webGuest.unplug();
    await host.detach('web');
    assert.deepEqual(of(webIp), []);
    assert.equal(of(otherIp).length, kept);
    await otherGuest.unplug();
    await host.detach('other');
  });

  test('V-118: of a VM whose port the next one takes the kernel forgets all, before its undo', async () => {
    await using outside = await outsideMachine();
    await outside.serve(7000, 'outside');
    await using host = await Host.open([{ ...virbr0, address6: 'fd12:3456:789a::1/64' }]);
    rememberLong();
    const stays = await host.attach('stays');
    const gone = await host.attach('gone', { ports: [port('')] });
    const { ip = '' } = gone.address ?? {};
    await using guest = await Machine.guest(gone);
    await guest.configure(gone.address);
    for (const protocol of ['tcp', 'udp'] as const) {
      assert.match(await guest.ask(protocol, '192.0.2.9', 7000), /outside saw/);
    }
    const own = linkLocalOf(gone.mac);
    const bridge = formatIpv6(linkLocalOf(await macOf('virbr0')));
    await withLinkLocal(guest);
    await guest.namespace.run('busybox', 'ping', '-6', '-c1', '-W9', `${bridge}%eth0`);
    const remembered = async () => [
      ...tracked().filter((line) => line.includes(`=${ip} `) || line.includes(inFull(own))),
      ...(await must('ip', 'neigh', 'show', ip)).split('\n').filter(Boolean),
      ...(await must('ip', 'neigh', 'show', formatIpv6(own))).split('\n').filter(Boolean),
    ];
    assert.equal((await remembered()).length, 5);
    await guest.unplug();
    const next = await host.attach('next', { ports: [port('')] });
    assert.deepEqual(await remembered(), []);
    for (const { tapFd } of [stays, next]) closeFd(tapFd);
    for (const vm of ['gone', 'next', 'stays']) await host.detach(vm);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a guest with a great many connections does not keep the undo busy for long', async () => {
    await using _ = await outsideMachine();
    await using host = await Host.open([virbr0], { maxConnections: 100_000 });
    rememberLong();
    const nic = await host.attach('web');
    const { ip = '' } = nic.address ?? {};
    const bridge =
      (await must('ip', '-o', 'link', 'show', 'virbr0')).match(/ether (\S+)/)?.[1] ?? '';
    for (let from = 1; from <= 20_000; from++) {
      const mac = [nic.mac, bridge] as const;
      send(nic.tapFd, udpFrame({ mac, ip: [ip, '192.0.2.9'], port: [from, 7000] }));
      if (from % 200 === 0) await sleep(1);
    }
    const before = tracked().length;
    assert.ok(before > 10_000, `${before} connections`);
    closeFd(nic.tapFd);
    const since = performance.now();
    await host.detach('web');
    assert.ok(performance.now() - since < patient(8000));
    assert.equal(tracked().filter((line) => line.includes(`=${ip} `)).length, 0);
  });

  test('a TCP connection that the host accepted before goes on when its port is published', async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    await using host = await Host.open();
    const server = createServer((socket) => socket.pipe(socket));
    await new Promise<void>((resolve) => server.listen(8080, '127.0.0.1', resolve));
    // Connections are tracked once there are rules that ask for it.
    const nic = await host.attach('web');
    const client = connect(8080, '127.0.0.1');
    await new Promise((resolve) => client.once('connect', resolve));
    server.close();
    const other = await host.attach('other', { ports: [port('127.0.0.1')] });
    client.write('still there?');
    const [answer] = await new Promise<[Buffer]>((resolve) =>
      client.once('data', (data) => resolve([data])),
    );
    assert.equal(String(answer), 'still there?');
    client.destroy();
    assert.doesNotMatch(await askFromHost('tcp', '127.0.0.1', 8080), /still/);
    for (const { tapFd } of [nic, other]) closeFd(tapFd);
    await host.detach('web');
    await host.detach('other');
  });
});
