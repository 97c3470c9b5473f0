import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd, udpSocket } from '#host';
import { byMac, DhcpServer } from '../../src/net/dhcp/server.ts';
import type { Claim } from '../../src/net/store/claim.ts';
import { KnownGuests } from '../../src/net/store/known-guests.ts';
import { broadcastMac, send, udpFrame } from '../net/frames.ts';
import { Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, waiting } from '../support/networks.ts';
import { patient } from '../support/patience.ts';

/** Asks for an address as a guest without cloud-init does; the variables busybox gives its script, or undefined. */
async function lease(
  host: Host,
  guest: Machine,
  ...options: readonly string[]
): Promise<Readonly<Record<string, string>> | undefined> {
  const script = join(host.dir, 'script.sh');
  await writeFile(script, '#!/bin/sh\n[ "$1" = bound ] && env\nexit 0\n');
  await chmod(script, 0o755);
  const words = ['udhcpc', '-i', 'eth0', '-f', '-n', '-q', '-t', '3', '-T', '1', '-s', script];
  const { code, output } = await guest.namespace.try('busybox', ...words, ...options);
  if (code !== 0) return undefined;
  return Object.fromEntries(
    output.split('\n').flatMap((line) => {
      const [, name = '', value = ''] = /^([a-z]\w*)=(.*)$/.exec(line) ?? [];
      return name === '' ? [] : [[name, value]];
    }),
  );
}

const claim: Claim = {
  ip: '127.0.0.9',
  vm: 'web',
  index: 0,
  mac: '52:00:00:00:00:09',
  tap: 'qmp00000009',
  hostname: 'web',
  ports: [],
};

/** A DISCOVER of the claim's NIC. */
function discover(): Buffer {
  const bytes = Buffer.alloc(244);
  bytes.set([1, 1, 6, 0], 0);
  bytes.set(Buffer.from(claim.mac.replaceAll(':', ''), 'hex'), 28);
  bytes.writeUInt32BE(0x63825363, 236);
  bytes.set([53, 1, 1, 255], 240);
  return bytes;
}

/** A responder on the loopback, whose claims come from the test, and a client that sends to it. */
async function onLoopback(claims: () => Promise<readonly Claim[]>) {
  await must('ip', 'link', 'set', 'lo', 'up');
  const lines: string[] = [];
  const write = (message: string): void => void lines.push(message);
  const log = { trace: write, debug: write, info: write, warn: write, error: write };
  const network = { address: '127.0.0.1', prefix: 8, nameservers: [], searches: [], mtu: 1500 };
  const store = { claims, changedAtNs: async () => undefined };
  const guests = new KnownGuests(store, 'lo', byMac);
  const server = await DhcpServer.open({ bridge: 'lo', network, guests, log });
  const client = createSocket('udp4');
  return {
    server,
    lines,
    ask: () =>
      new Promise((resolve, reject) =>
        client.send(discover(), 67, '127.0.0.1', (error) => (error ? reject(error) : resolve(0))),
      ),
    replies: () => lines.filter((line) => line === 'DHCP reply').length,
    [Symbol.asyncDispose]: async () => {
      client.close();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function until(isReached: () => boolean): Promise<void> {
  const deadline = performance.now() + patient(4000);
  while (!isReached()) {
    assert.ok(performance.now() < deadline, `not reached: ${isReached}`);
    await sleep(5);
  }
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat', 'busybox'], () => {
  test('V-110 V-119 V-120: a guest without cloud-init gets the claimed address by DHCP', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { hostname: 'web-1' });
    await using guest = await Machine.guest(nic);
    const got = await lease(host, guest);
    assert.equal(got?.ip, nic.address?.ip);
    // The name server of the network, and one for while no plugin runs.
    const both = '192.168.122.1 192.0.2.53';
    assert.deepEqual(
      [got?.subnet, got?.router, got?.dns, got?.hostname, got?.mtu, got?.lease],
      ['255.255.255.0', '192.168.122.1', both, 'web-1', '1500', '315360000'],
    );
    await guest.unplug();
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-126: a guest without cloud-init gets the name servers and domains of its own job by DHCP', async () => {
    await using host = await Host.open();
    const dns = { servers: ['203.0.113.9'], searches: ['lan.example', 'example.test'] };
    const own = await host.attach('own', { dns });
    const other = await host.attach('other');
    await using guest = await Machine.guest(own);
    await using neighbour = await Machine.guest(other);
    const [got, plain] = [
      await lease(host, guest, '-O', 'search'),
      await lease(host, neighbour, '-O', 'search'),
    ];
    assert.deepEqual([got?.dns, got?.search], ['203.0.113.9', 'lan.example example.test']);
    assert.deepEqual(
      [plain?.dns, plain?.domain, plain?.search],
      ['192.168.122.1 192.0.2.53', 'virbr0.internal', 'virbr0.internal'],
    );
    await guest.unplug();
    await neighbour.unplug();
    await host.detach('own');
    await host.detach('other');
  });

  test('who has no claim gets no answer, and who wants another address gets its own', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    await using guest = await Machine.guest(nic);
    const wanted = await lease(host, guest, '-r', '192.168.122.250');
    assert.equal(wanted?.ip, nic.address?.ip);
    await guest.namespace.ip('link', 'set', 'eth0', 'address', '52:54:00:ff:ff:ff');
    assert.equal(await lease(host, guest), undefined);
    await guest.unplug();
    await host.detach('web');
  });

  test('V-121: a VM that comes later is known at once; one that went is not', async () => {
    await using host = await Host.open();
    const first = await host.attach('first');
    await using guest = await Machine.guest(first);
    assert.ok(await lease(host, guest));
    const second = await host.attach('second');
    await using other = await Machine.guest(second);
    assert.equal((await lease(host, other))?.ip, second.address?.ip);
    const { steps } = await host.undoLog('first');
    const claim = steps.find(({ kind }) => kind === 'net-claim');
    assert.ok(claim);
    await host.networks.vmTerminatedTeardown(claim, waiting());
    assert.equal(await lease(host, guest), undefined);
    await guest.unplug();
    await other.unplug();
    await host.detach('first');
    await host.detach('second');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('after a restart of the plugin DHCP is back, beside the old one and without it', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    await using guest = await Machine.guest(nic);
    await using restarted = host.again();
    const known = { vm: 'web', index: 0, record: nic.record };
    await restarted.networks.adopt(known, waiting());
    assert.equal((await lease(host, guest))?.ip, nic.address?.ip, 'both answer');
    await host.networks[Symbol.asyncDispose]();
    assert.equal((await lease(host, guest))?.ip, nic.address?.ip, 'the new one answers');
    await guest.unplug();
    await restarted.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('guests get the settings that the network has now, not those of when its first VM came', async () => {
    await using host = await Host.open();
    const first = await host.attach('first');
    await using guest = await Machine.guest(first);
    assert.equal((await lease(host, guest))?.mtu, '1500');
    await must('ip', 'link', 'set', 'virbr0', 'mtu', '1400');
    const second = await host.attach('second');
    assert.equal((await lease(host, guest))?.mtu, '1400');
    closeFd((await host.attach('third')).tapFd);
    const started = host.lines.filter((line) => line.startsWith('DHCP responder started'));
    assert.equal(started.length, 2, 'and nothing is opened anew without a change');
    closeFd(second.tapFd);
    await guest.unplug();
    for (const vm of ['first', 'second', 'third']) await host.detach(vm);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a list of VMs that was being read while one went is not kept', async () => {
    const readings: PromiseWithResolvers<readonly Claim[]>[] = [];
    await using responder = await onLoopback(() => {
      const reading = Promise.withResolvers<readonly Claim[]>();
      readings.push(reading);
      return reading.promise;
    });
    await responder.ask();
    await until(() => readings.length === 1);
    responder.server.forget();
    readings[0]?.resolve([claim]);
    await until(() => responder.replies() === 1);
    await responder.ask();
    await until(() => readings.length === 2);
    readings[1]?.resolve([]);
  });

  test('queries that come together read the list of VMs once, and again when that failed', async () => {
    const readings: PromiseWithResolvers<readonly Claim[]>[] = [];
    await using responder = await onLoopback(() => {
      const reading = Promise.withResolvers<readonly Claim[]>();
      readings.push(reading);
      return reading.promise;
    });
    for (let each = 0; each < 5; each++) await responder.ask();
    await until(() => readings.length >= 1);
    readings[0]?.reject(new Error('the disk is gone'));
    await until(() => responder.lines.filter((line) => /query failed/.test(line)).length === 5);
    assert.equal(readings.length, 1);
    await responder.ask();
    await until(() => readings.length === 2);
    readings[1]?.resolve([claim]);
    await until(() => responder.replies() === 1);
  });

  test('rubbish on the DHCP port does no harm', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    const everybody = { mac: [nic.mac, broadcastMac], ip: ['0.0.0.0', '255.255.255.255'] } as const;
    for (const size of [0, 1, 239, 240, 241, 300, 1400]) {
      // All in all fewer than a guest may ask at a time, so that the responder gets every one.
      for (let each = 0; each < 5; each++) {
        const payload = randomBytes(size);
        // As much like a question as it can be without being one.
        if (size >= 240) {
          payload.set([1, 1, 6, 0], 0);
          payload.set(Buffer.from(nic.mac.replaceAll(':', ''), 'hex'), 28);
          payload.writeUInt32BE(0x63825363, 236);
        }
        send(nic.tapFd, udpFrame({ ...everybody, port: [68, 67], payload }));
      }
    }
    await using guest = await Machine.guest(nic);
    assert.equal((await lease(host, guest))?.ip, nic.address?.ip);
    await guest.unplug();
    await host.detach('web');
  });

  test('where another server answers on a foreign bridge, ours stays silent', async () => {
    await using host = await Host.open();
    await must('ip', 'link', 'add', 'virbr0', 'type', 'bridge');
    await must('ip', 'addr', 'add', '192.168.122.1/24', 'dev', 'virbr0');
    await must('ip', 'link', 'set', 'virbr0', 'up');
    const theirs = udpSocket({ device: 'virbr0', address: '0.0.0.0', port: 67, broadcast: true });
    const nic = await host.attach('web');
    assert.match(host.lines.join('\n'), /no DHCP responder: another server has the port/);
    closeFd(theirs);
    closeFd(nic.tapFd);
    await host.detach('web');
    await must('ip', 'link', 'del', 'virbr0');
  });
});
