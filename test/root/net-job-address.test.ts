import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NicSpec } from '#spec';
import { Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { built, Host, leftovers, nothing, tapOf, virbr0, waiting } from '../support/networks.ts';

const lan = {
  link: 'out0',
  hostAddress: '192.0.2.1',
  address: '192.0.2.9',
  six: { hostAddress: '2001:db8:2::1', address: '2001:db8:2::9' },
};
// Behind the machine on the network, which is the gateway.
const beyond = ['198.51.100.1', '2001:db8:7::1'] as const;

const own = {
  ip: '192.0.2.20',
  ip6: '2001:db8:2::20',
  fixed: { prefix: 24, gateway: lan.address, nameservers: ['192.0.2.53', '2001:db8::53'] },
  fixed6: { prefix: 64, gateway: lan.six.address },
  ports: [],
} as const;

const ways = {
  'a bridge that is not managed': {
    nic: { kind: 'bridge', bridge: 'br0', ...own },
    place: 'bridge br0',
  },
  macvtap: {
    nic: { kind: 'macvtap', device: 'out0', mode: 'bridge', ...own },
    place: 'device out0',
  },
} as const satisfies Readonly<Record<string, { nic: NicSpec; place: string }>>;

async function build(host: Host, vm: string, nic: NicSpec) {
  await using undo = await host.undoLog(vm);
  const request = { ...nic, vm, index: 0, hostname: vm };
  const attached = await built(host.networks, request, undo);
  await attached.settle(waiting());
  undo.keep();
  return { ...attached, tapFd: tapOf(attached).fd, name: tapOf(attached).name };
}

/** A server of both families sees addresses of IPv4 as those of IPv6. */
const plain = (answer: string): string => answer.replace('::ffff:', '');

/** A gateway on the network of out0, which leads to more addresses. */
async function openGateway(bridge: string | undefined): Promise<Machine> {
  const outside = await Machine.outside(lan);
  for (const address of beyond) await outside.namespace.ip('addr', 'add', address, 'dev', 'lo');
  await outside.serve(7000, 'outside', '::');
  if (bridge === undefined) return outside;
  const kind = ['type', 'bridge', 'forward_delay', '0'];
  await must('ip', 'link', 'add', bridge, 'up', ...kind);
  await must('ip', 'link', 'set', 'out0', 'master', bridge);
  return outside;
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat'], () => {
  for (const [name, { nic, place }] of Object.entries(ways)) {
    test(`V-110 V-120: with the addresses of its job a guest reaches and is reached on ${name}`, async () => {
      const bridge = nic.kind === 'bridge' ? nic.bridge : undefined;
      await using outside = await openGateway(bridge);
      await using host = await Host.open([virbr0], {
        bridges: ['br0'],
        macvtapDevices: ['out0'],
      });
      const web = await build(host, 'web', nic);
      const { ip, ip6, fixed, fixed6 } = own;
      assert.deepEqual(web.address, { ip, ...fixed, six: { ip: ip6, ...fixed6 }, searches: [] });
      assert.equal('ip' in web.record && web.record.ip, ip, 'it is that of services');
      assert.match(
        await must('ip', 'link', 'show', web.name),
        / web\/0 192\.0\.2\.20 2001:db8:2::20/,
      );
      for (const [key, text] of Object.entries({ ip, ip6 })) {
        const others = { ip: '192.0.2.21', ip6: '2001:db8:2::21', [key]: text };
        await assert.rejects(build(host, 'other', { ...nic, ...others }), {
          code: 'host',
          message: `VM other: ${key} ${text} on ${place} is taken by VM web`,
        });
        await host.detach('other');
      }
      await using guest = await Machine.guest({ ...web, offload: true });
      await guest.configure(web.address);
      await guest.serve(80, 'web', '::');
      for (const protocol of ['tcp', 'udp'] as const) {
        for (const [at, to] of [
          [ip, lan.address],
          [ip6, lan.six.address],
          [ip, beyond[0]],
          [ip6, beyond[1]],
        ] as const) {
          assert.equal(plain(await guest.ask(protocol, to, 7000)), `outside saw ${at}`);
        }
        assert.equal(plain(await outside.ask(protocol, ip, 80)), `web saw ${lan.address}`);
        assert.equal(await outside.ask(protocol, ip6, 80), `web saw ${lan.six.address}`);
      }
      await guest.unplug();
      await host.detach('web');
      // They are free again, also for a guest without IPv4.
      const nameservers = ['2001:db8::53'];
      const { ip: _, fixed: __, ...alone } = nic;
      const only = await build(host, 'other', { ...alone, fixed6: { ...fixed6, nameservers } });
      assert.deepEqual(only.address, { ip: ip6, ...fixed6, nameservers, searches: [] });
      assert.equal('ip' in only.record && only.record.ip, ip6, 'it is that of services');
      await using other = await Machine.guest({ ...only, offload: true });
      await other.configure(only.address);
      await other.serve(80, 'other', '::');
      await other.askUntil('tcp', beyond[1], 7000, /^outside saw 2001:db8:2::20$/);
      assert.equal(await outside.ask('udp', ip6, 80), `other saw ${lan.six.address}`);
      await other.unplug();
      await host.detach('other');
      if (bridge !== undefined) await must('ip', 'link', 'del', bridge);
      assert.deepEqual(await leftovers(), nothing);
    });
  }

  test('V-120: an address and what goes with it are refused where they do not belong', async () => {
    await using _gateway = await openGateway('br0');
    await using host = await Host.open([virbr0], { bridges: ['br0'] });
    const { ip, ip6, fixed, fixed6 } = own;
    const on = (bridge: string, parts: object): Promise<unknown> =>
      build(host, 'web', { kind: 'bridge', bridge, ports: [], ...parts });
    await assert.rejects(on('br0', { ip, ip6, fixed }), {
      code: 'job',
      message: `VM web: ip6 ${ip6}: bridge br0 is not a managed network: add prefix6, and gateway6 where there is one`,
    });
    await assert.rejects(on('virbr0', { ip: '192.168.122.9', ip6, fixed6 }), {
      code: 'job',
      message: /prefix6 64: virbr0 is a managed network, which has its own prefix/,
    });
    await must('ip', 'link', 'del', 'br0');
    assert.deepEqual(await leftovers(), nothing);
  });
});
