import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { askFromHost, Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, virbr0 } from '../support/networks.ts';
import { patient } from '../support/patience.ts';

/** Something that listens on the host under test. */
async function listen(port: number, address: string, says: string): Promise<AsyncDisposable> {
  const server = createServer((_, response) => response.end(says));
  await new Promise<void>((resolve) => server.listen(port, address, resolve));
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const outsideMachine = () =>
  Machine.outside({ link: 'out0', hostAddress: '192.0.2.1', address: '192.0.2.9' });

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat', 'busybox'], () => {
  test('a guest speaks with its own addresses only', async (t) => {
    await using outside = await outsideMachine();
    await outside.serve(7000, 'outside');
    await using host = await Host.open();
    const nic = await host.attach('web');
    const peer = await host.attach('peer');
    await using guest = await Machine.guest(nic);
    await using victim = await Machine.guest(peer);
    await guest.configure(nic.address);
    await victim.configure(peer.address);
    const victimIp = peer.address?.ip ?? '';
    const online = async () => /saw/.test(await guest.ask('tcp', '192.0.2.9', 7000));
    const offline = () => guest.askInVain('tcp', '192.0.2.9', 7000);
    assert.ok(await online());

    await t.test('not with the IP address of another', async () => {
      await guest.namespace.ip('addr', 'add', '192.168.122.77/32', 'dev', 'eth0');
      const route = ['192.0.2.9', 'via', '192.168.122.1', 'src', '192.168.122.77'];
      await guest.namespace.ip('route', 'add', ...route);
      await offline();
      await guest.namespace.ip('route', 'del', '192.0.2.9');
      await guest.namespace.ip('addr', 'del', '192.168.122.77/32', 'dev', 'eth0');
      assert.ok(await online());
    });

    await t.test('not with another MAC address', async () => {
      await guest.namespace.ip('link', 'set', 'eth0', 'address', '52:54:00:ff:ff:ff');
      await offline();
      await guest.namespace.ip('link', 'set', 'eth0', 'address', nic.mac);
      await guest.namespace.ip('route', 'replace', 'default', 'via', '192.168.122.1');
      assert.ok(await online());
    });

    await t.test('not in ARP: the gateway stays the gateway', async () => {
      await victim.ask('tcp', '192.0.2.9', 7000);
      await guest.namespace.ip('addr', 'add', '192.168.122.1/32', 'dev', 'eth0');
      const claim = [
        'arping',
        '-U',
        '-c',
        '3',
        '-I',
        'eth0',
        '-s',
        '192.168.122.1',
        '192.168.122.1',
      ];
      await guest.namespace.try('busybox', ...claim);
      await guest.namespace.ip('addr', 'del', '192.168.122.1/32', 'dev', 'eth0');
      const known = await victim.namespace.ip('neigh', 'show', '192.168.122.1');
      assert.doesNotMatch(known, new RegExp(nic.mac));
      assert.match(await victim.ask('tcp', '192.0.2.9', 7000), /saw/);
    });

    await t.test('not in IPv6, which its network has not', async () => {
      await victim.namespace.ip('addr', 'add', 'fd00::2/64', 'dev', 'eth0', 'nodad');
      await guest.namespace.ip('addr', 'add', 'fd00::1/64', 'dev', 'eth0', 'nodad');
      const { code } = await guest.namespace.try('busybox', 'ping', '-6', '-c1', '-W1', 'fd00::2');
      assert.notEqual(code, 0);
    });

    await t.test('but it reaches its neighbour', async () => {
      await victim.serve(80, 'victim');
      assert.match(await guest.ask('tcp', victimIp, 80), /victim saw/);
    });

    for (const one of [guest, victim]) await one.unplug();
    await host.detach('web');
    await host.detach('peer');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('what listens on the host is closed to guests, unless the network opens it', async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    await using _api = await listen(4646, '0.0.0.0', 'the host saw you');
    for (const hostAccess of ['closed', 'open'] as const) {
      await using host = await Host.open([{ ...virbr0, hostAccess }]);
      const nic = await host.attach('web');
      await using guest = await Machine.guest(nic);
      await guest.configure(nic.address);
      const answer = await guest.ask('tcp', '192.168.122.1', 4646);
      assert.equal(/the host saw you/.test(answer), hostAccess === 'open', answer);
      await guest.namespace.run('busybox', 'ping', '-c1', '-W2', '192.168.122.1');
      await guest.unplug();
      await host.detach('web');
    }
    assert.deepEqual(await leftovers(), nothing);
  });

  test("route_localnet doesn't open the host's loopback to guests", async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    const heard: string[] = [];
    const secret = createSocket('udp4').on('message', (_, from) => heard.push(from.address));
    await new Promise<void>((resolve) => secret.bind(8500, '127.0.0.1', resolve));
    await using host = await Host.open([{ ...virbr0, hostAccess: 'open' }]);
    const nic = await host.attach('web');
    await using guest = await Machine.guest(nic);
    await guest.configure(nic.address);
    for (const own of ['127.0.0.0/8', '127.0.0.1']) {
      await guest.namespace.ip('route', 'del', 'local', own, 'dev', 'lo', 'table', 'local');
    }
    await guest.namespace.ip('route', 'add', '127.0.0.1', 'via', '192.168.122.1');
    await guest.ask('udp', '127.0.0.1', 8500, 700);
    assert.deepEqual(heard, []);
    await must('nft', 'flush', 'ruleset');
    await guest.ask('udp', '127.0.0.1', 8500, 700);
    assert.deepEqual(heard, [nic.address?.ip], 'without the rule it is open');
    secret.close();
    await guest.unplug();
    await host.detach('web');
  });

  test('a port that is published on loopback is closed to the neighbours of the host', async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    await using outside = await outsideMachine();
    await using host = await Host.open();
    const port = { label: 'web', hostIp: '127.0.0.1', hostPort: 8080, guestPort: 80 };
    const everywhere = { ...port, hostIp: '', hostPort: 8081 };
    const nic = await host.attach('web', { ports: [port, everywhere] });
    await using guest = await Machine.guest(nic);
    await guest.configure(nic.address);
    await guest.serve(80, 'web');
    assert.match(await askFromHost('udp', '127.0.0.1', 8080), /web saw/);
    for (const own of ['127.0.0.0/8', '127.0.0.1']) {
      await outside.namespace.ip('route', 'del', 'local', own, 'dev', 'lo', 'table', 'local');
    }
    await outside.namespace.ip('route', 'add', '127.0.0.1', 'via', '192.0.2.1');
    for (const hostPort of [8080, 8081]) await outside.askInVain('udp', '127.0.0.1', hostPort);
    // An honest neighbour takes no answers from 127.0.0.1: whether the guest was reached shows here.
    const connections = readFileSync('/proc/net/nf_conntrack', 'utf8');
    assert.doesNotMatch(connections, /src=192\.0\.2\.9 dst=127\.0\.0\.1 /);
    await guest.unplug();
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test("a cloud's name server is open to guests, and nothing else of its address", async () => {
    await using outside = await outsideMachine();
    for (const address of ['169.254.169.253', '169.254.169.254', '168.63.129.16']) {
      await outside.namespace.ip('addr', 'add', `${address}/32`, 'dev', 'out0p');
      await must('ip', 'route', 'add', address, 'via', '192.0.2.9');
    }
    for (const port of [53, 80]) await outside.serve(port, `port ${port}`);
    await using host = await Host.open([
      { ...virbr0, nameservers: ['169.254.169.253', '168.63.129.16'] },
    ]);
    const nic = await host.attach('web');
    await using guest = await Machine.guest(nic);
    await guest.configure(nic.address);
    // Neither fetch() nor every wget asks at such a port.
    const get = `require('node:net').connect(53, '169.254.169.253')
      .end('GET / HTTP/1.0\\r\\n\\r\\n').setTimeout(${patient(3000)}, process.exit).pipe(process.stdout)`;
    assert.match(await guest.namespace.run(process.execPath, '-e', get), /port 53 saw/);
    const answersFrom = (address: string) =>
      outside.namespace.ip('route', 'replace', '192.0.2.0/24', 'dev', 'out0p', 'src', address);
    await answersFrom('169.254.169.253');
    assert.match(await guest.ask('udp', '169.254.169.253', 53), /port 53 saw/);
    assert.match(await askFromHost('udp', '169.254.169.253', 80), /port 80 saw/);
    await guest.askInVain('udp', '169.254.169.253', 80);
    await answersFrom('168.63.129.16');
    assert.match(await guest.ask('udp', '168.63.129.16', 53), /port 53 saw/);
    await guest.askInVain('udp', '168.63.129.16', 80);
    await answersFrom('169.254.169.254');
    assert.match(await askFromHost('udp', '169.254.169.254', 53), /port 53 saw/);
    await guest.askInVain('udp', '169.254.169.254', 53);
    await guest.unplug();
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test("the host's cloud metadata is closed to guests", async () => {
    await using outside = await outsideMachine();
    const places = ['169.254.169.254', '168.63.129.16', '100.100.100.200', '192.0.0.192'];
    for (const address of places) {
      await outside.namespace.ip('addr', 'add', `${address}/32`, 'dev', 'out0p');
      await must('ip', 'route', 'add', address, 'via', '192.0.2.9');
    }
    await outside.serve(80, 'metadata');
    await using host = await Host.open();
    const nic = await host.attach('web');
    await using guest = await Machine.guest(nic);
    await guest.configure(nic.address);
    for (const address of places) {
      assert.match(await askFromHost('tcp', address, 80), /metadata saw/);
      await guest.askInVain('tcp', address, 80);
    }
    assert.match(await guest.ask('tcp', '192.0.2.9', 80), /metadata saw/);
    await guest.unplug();
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });
});
