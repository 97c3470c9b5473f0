import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, virbr0, waiting } from '../support/networks.ts';

const port = (hostPort: number, more: { hostIp?: string; protocol?: 'tcp' | 'udp' } = {}) => ({
  label: `p${hostPort}`,
  hostIp: '',
  hostPort,
  guestPort: 80,
  ...more,
});
const lan = {
  link: 'out0',
  hostAddress: '192.0.2.1',
  address: '192.0.2.9',
  six: { hostAddress: '2001:db8:2::1', address: '2001:db8:2::9' },
};

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat'], () => {
  test('V-112: a port that a rule of another program leads elsewhere is refused before the start', async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    await using host = await Host.open();
    const nat =
      'table ip nat { chain DOCKER { iifname != "docker0" tcp dport 8080 counter dnat to 172.17.0.2:80; }; chain PREROUTING { type nat hook prerouting priority dstnat; fib daddr type local jump DOCKER; }; }';
    await must('nft', nat);
    const message =
      "VM web: port p8080 on *:8080 can't be mapped: chain ip nat DOCKER of nftables leads it elsewhere";
    await assert.rejects(host.attach('web', { ports: [port(8080)] }), { code: 'host', message });
    const user = {
      kind: 'user',
      vm: 'web',
      index: 0,
      hostname: 'web',
      ports: [port(8080)],
    } as const;
    await assert.rejects(
      host.networks.vmStartedBuild(
        user,
        { perform: (_, action) => Promise.resolve(action()) },
        waiting(),
      ),
      { code: 'host', message },
    );
    const web = await host.attach('web', { ports: [port(8080, { protocol: 'udp' }), port(8081)] });
    await using _guest = await Machine.guest(web);
    await must('nft', 'delete', 'table', 'ip', 'nat');
    const db = await host.attach('db', { ports: [port(8080, { protocol: 'tcp' })] });
    await using _other = await Machine.guest(db);
    await _guest.unplug();
    await _other.unplug();
    await host.detach('web');
    await host.detach('db');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-112: a port that another agent publishes is refused, until its VM is gone', async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    await using _outside = await Machine.outside(lan);
    const with6 = { ...virbr0, address6: 'auto' };
    await using first = await Host.open([with6]);
    await using second = await Host.open([{ ...with6, bridge: 'virbr1', address: '10.77.0.1' }]);
    const on = { bridge: 'virbr1' };
    const web = await first.attach('web', {
      ports: [
        port(8080),
        port(8081, { hostIp: '192.0.2.1' }),
        port(8083, { hostIp: '2001:db8:2::1' }),
      ],
    });
    await using guest = await Machine.guest(web);
    for (const wanted of [
      port(8080),
      port(8080, { hostIp: '192.0.2.1' }),
      port(8080, { hostIp: '2001:db8:2::1' }),
      port(8081),
      port(8083),
    ]) {
      await assert.rejects(second.attach('db', { ...on, ports: [wanted] }), {
        code: 'host',
        message: /^VM db: port .* chain inet nomad_driver_qmp_\w+ arriving of nftables leads it/,
      });
    }
    const cache = await second.attach('cache', {
      ...on,
      ports: [port(8081, { hostIp: '127.0.0.1' }), port(8082), port(8083, { hostIp: '192.0.2.1' })],
    });
    await using other = await Machine.guest(cache);
    await guest.unplug();
    await first.detach('web');
    const db = await second.attach('db', { ...on, ports: [port(8080)] });
    await using third = await Machine.guest(db);
    await other.unplug();
    await third.unplug();
    await second.detach('cache');
    await second.detach('db');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-115: a port of one protocol leaves the other one to another guest', async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    await using outside = await Machine.outside(lan);
    await using host = await Host.open();
    const web = await host.attach('web', { ports: [port(8080, { protocol: 'tcp' })] });
    const dns = await host.attach('dns', { ports: [port(8080, { protocol: 'udp' })] });
    await using webGuest = await Machine.guest(web);
    await using dnsGuest = await Machine.guest(dns);
    for (const [nic, guest] of [
      [web, webGuest],
      [dns, dnsGuest],
    ] as const) {
      await guest.configure(nic.address);
      await guest.serve(80, nic === web ? 'web' : 'dns');
    }
    assert.equal(await outside.ask('tcp', '192.0.2.1', 8080), 'web saw 192.0.2.9');
    assert.equal(await outside.ask('udp', '192.0.2.1', 8080), 'dns saw 192.0.2.9');
    await assert.rejects(host.attach('db', { ports: [port(8080)] }), /is already mapped to VM/);
    await webGuest.unplug();
    await dnsGuest.unplug();
    await host.detach('web');
    await host.detach('dns');
    assert.deepEqual(await leftovers(), nothing);
  });
});
