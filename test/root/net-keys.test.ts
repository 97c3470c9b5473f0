import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { closeFd } from '#host';
import { dhcpSockets } from '../../src/net/dhcp/server.ts';
import { writeSysctls } from '../../src/net/model/sysctl.ts';
import { Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, type TestNic, virbr0 } from '../support/networks.ts';
import { patient } from '../support/patience.ts';

const outsideMachine = () =>
  Machine.outside({ link: 'out0', hostAddress: '192.0.2.1', address: '192.0.2.9' });
const ipOf = (nic: TestNic): string => nic.address?.ip ?? '';
const published = { label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 };

async function machineOf(nic: TestNic): Promise<Machine> {
  return await (await Machine.guest(nic)).configure(nic.address);
}

/** The host answers TCP and UDP at the port. */
async function listen(port: number): Promise<AsyncDisposable> {
  const tcp = createServer((_, response) => response.end('the host saw you'));
  const udp = createSocket('udp4');
  udp.on('message', (_, from) => udp.send('the host saw you', from.port, from.address));
  await new Promise<void>((resolve) => tcp.listen(port, resolve));
  await new Promise<void>((resolve) => udp.bind(port, resolve));
  return {
    async [Symbol.asyncDispose]() {
      udp.close();
      tcp.closeAllConnections();
      await new Promise((resolve) => tcp.close(resolve));
    },
  };
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat', 'busybox'], () => {
  // Docker, for example, turns it on: then the kernel bridges what is translated, instead of routing it.
  for (const bridged of ['0', '1'])
    test(`isolate: guests reach each other at published ports only (br_netfilter: ${bridged})`, async () => {
      await writeSysctls({ 'net/bridge/bridge-nf-call-iptables': bridged });
      await using outside = await outsideMachine();
      await outside.serve(7000, 'outside');
      await using host = await Host.open([{ ...virbr0, isolate: true }]);
      const [web, peer] = [
        await host.attach('web', { ports: [published] }),
        await host.attach('peer'),
      ];
      await using server = await machineOf(web);
      await using client = await machineOf(peer);
      for (const port of [80, 90]) await server.serve(port, 'web');

      const ask = (to: string, port: number) => client.ask('tcp', to, port);
      assert.match(await ask('192.168.122.1', 8080), /web saw/, 'published');
      assert.match(await ask('192.0.2.1', 8080), /web saw/, 'published, at another address');
      assert.match(await ask('192.0.2.9', 7000), /outside saw/);
      await client.askInVain('tcp', ipOf(web), 90);
      // Without ARP for its neighbour: the host would route it back into the network.
      await client.namespace.ip('route', 'add', ipOf(web), 'via', '192.168.122.1');
      for (const protocol of ['tcp', 'udp'] as const) {
        await client.askInVain(protocol, ipOf(web), 90);
      }
      await client.namespace.ip('route', 'del', ipOf(web));

      // The next plugin process has another configuration: it holds for running guests.
      await host.networks[Symbol.asyncDispose]();
      for (const [isolate, reached] of [
        [false, true],
        [true, false],
      ] as const) {
        await using next = host.again([{ ...virbr0, isolate }]);
        for (const [vm, { record }] of [
          ['web', web],
          ['peer', peer],
        ] as const) {
          await next.networks.adopt(
            { vm, index: 0, record },
            { signal: AbortSignal.timeout(patient(9000)) },
          );
        }
        if (reached) await client.askUntil('tcp', ipOf(web), 90, /web saw/);
        else await client.askInVain('tcp', ipOf(web), 90);
      }
      await using last = host.again();
      for (const [vm, machine] of [
        ['web', server],
        ['peer', client],
      ] as const) {
        await machine.unplug();
        await last.detach(vm);
      }
      assert.deepEqual(await leftovers(), nothing);
    });

  test('nat = false: guests have their own address outside, and are reached at published ports', async () => {
    await using outside = await outsideMachine();
    await outside.serve(7000, 'outside');
    await using host = await Host.open([{ ...virbr0, nat: false }]);
    const nic = await host.attach('web', { ports: [published] });
    await using guest = await machineOf(nic);
    for (const port of [80, 90]) await guest.serve(port, 'web');
    await guest.askInVain('tcp', '192.0.2.9', 7000);
    await outside.namespace.ip('route', 'add', '192.168.122.0/24', 'via', '192.0.2.1');
    assert.equal(await guest.ask('tcp', '192.0.2.9', 7000), `outside saw ${ipOf(nic)}`);
    assert.equal(await outside.ask('tcp', '192.0.2.1', 8080), 'web saw 192.0.2.9');
    assert.equal(await outside.ask('tcp', ipOf(nic), 80), 'web saw 192.0.2.9');
    assert.equal(await outside.ask('udp', ipOf(nic), 80), 'web saw 192.0.2.9');
    await outside.askInVain('tcp', ipOf(nic), 90);
    await guest.unplug();
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('nat: guests are seen as the host, and reached at its ports only', async () => {
    await using outside = await outsideMachine();
    await outside.namespace.ip('route', 'add', '192.168.122.0/24', 'via', '192.0.2.1');
    await outside.serve(7000, 'outside');
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [published] });
    await using guest = await machineOf(nic);
    await guest.serve(80, 'web');
    assert.equal(await guest.ask('tcp', '192.0.2.9', 7000), 'outside saw 192.0.2.1');
    assert.equal(await outside.ask('tcp', '192.0.2.1', 8080), 'web saw 192.0.2.9');
    await outside.askInVain('tcp', ipOf(nic), 80);
    await guest.unplug();
    await host.detach('web');
  });

  test('dhcp = false: the driver has no DHCP port, also after it was configured anew', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    assert.equal(dhcpSockets(), 1);
    await host.networks[Symbol.asyncDispose]();
    await using next = host.again([{ ...virbr0, dhcp: false }]);
    const known = { vm: 'web', index: 0, record: nic.record };
    await next.networks.adopt(known, { signal: AbortSignal.timeout(patient(9000)) });
    const peer = await next.attach('peer');
    assert.equal(dhcpSockets(), 0);
    for (const { tapFd } of [nic, peer]) closeFd(tapFd);
    for (const vm of ['web', 'peer']) await next.detach(vm);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('mtu: of the bridge, its taps and its guests, until the last one is gone', async () => {
    const mtuOf = async (link: string) =>
      /mtu (\d+)/.exec(await must('ip', 'link', 'show', link))?.[1];
    await using host = await Host.open([{ ...virbr0, mtu: 9000 }]);
    const nic = await host.attach('web');
    assert.equal(nic.mtu, 9000);
    assert.deepEqual([await mtuOf('virbr0'), await mtuOf(nic.tap)], ['9000', '9000']);
    await host.networks[Symbol.asyncDispose]();
    await using next = host.again([{ ...virbr0, mtu: 1400 }]);
    const peer = await next.attach('peer');
    assert.equal(peer.mtu, 9000);
    assert.ok(next.lines.some((line) => /keeps its address and MTU .*1\/24, MTU 9000"/.test(line)));
    for (const { tapFd } of [nic, peer]) closeFd(tapFd);
    for (const vm of ['web', 'peer']) await next.detach(vm);
    const again = await next.attach('web');
    assert.deepEqual([again.mtu, await mtuOf('virbr0')], [1400, '1400']);
    closeFd(again.tapFd);
    await next.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('mtu: a bridge of others is not changed: the key must agree with it', async () => {
    await must('ip', 'link', 'add', 'virbr0', 'type', 'bridge');
    await must('ip', 'addr', 'add', '192.168.122.1/24', 'dev', 'virbr0');
    await using host = await Host.open([{ ...virbr0, mtu: 9000 }]);
    const message =
      'bridge virbr0 exists with MTU 1500, but the network virbr0 is configured with mtu = 9000: ' +
      'leave the key out, or change the bridge';
    await assert.rejects(host.attach('web'), { code: 'host', message });
    await using same = await Host.open([{ ...virbr0, mtu: 1500 }]);
    const nic = await same.attach('web');
    closeFd(nic.tapFd);
    await same.detach('web');
    await must('ip', 'link', 'del', 'virbr0');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('allow_host_ports: what is listed is open to guests, over the protocol that is listed', async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    await using _both = await listen(5001);
    await using _tcp = await listen(5002);
    await using _udp = await listen(5003);
    await using host = await Host.open([
      { ...virbr0, hostPorts: ['5001', 'tcp/5002', 'udp/5003'] },
    ]);
    const nic = await host.attach('web');
    await using guest = await machineOf(nic);
    const open: string[] = [];
    for (const port of [5001, 5002, 5003]) {
      for (const protocol of ['tcp', 'udp'] as const) {
        const answer = await guest.ask(protocol, '192.168.122.1', port, patient(700));
        if (/the host saw/.test(answer)) open.push(`${protocol}/${port}`);
      }
    }
    assert.deepEqual(open, ['tcp/5001', 'udp/5001', 'tcp/5002', 'udp/5003']);
    await guest.unplug();
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  const routes = {
    'a network that the host reaches otherwise': ['192.168.122.0/24', true],
    'a part of it': ['192.168.122.64/26', true],
    'a larger one': ['192.168.0.0/16', true],
    'one beside it': ['192.168.123.0/24', false],
    'half of all addresses, as VPNs have it': ['128.0.0.0/1', false],
    'all addresses': ['0.0.0.0/0', false],
  } as const;
  for (const [what, [route, refused]] of Object.entries(routes)) {
    test(`a network whose addresses have a route is refused: ${what}`, async () => {
      await using _outside = await outsideMachine();
      await must('ip', 'route', 'add', route, 'via', '192.0.2.9');
      await using host = await Host.open();
      if (refused) {
        const message = `network virbr0 (192.168.122.0/24) overlaps a route of this host (${route} through out0): give its managed_network another address`;
        await assert.rejects(host.attach('web'), { code: 'host', message });
      } else {
        closeFd((await host.attach('web')).tapFd);
        await host.detach('web');
      }
      assert.deepEqual(await leftovers(), nothing);
    });
  }
});
