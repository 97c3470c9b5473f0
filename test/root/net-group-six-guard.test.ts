import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd, withNetns } from '#host';
import { formatIpv6, linkLocalOf, parseIpv6 } from '#spec';
import type { GroupNic } from '../../src/net/model/group.ts';
import { tapMac } from '../../src/net/model/names.ts';
import { attacksOf, type Ends6, hello, neededBy, type Shot } from '../net/attacks6.ts';
import { received, send, tagged, withForgedChecksum } from '../net/frames.ts';
import { allNodes, frame6, icmpMessage, udp } from '../net/frames6.ts';
import { Allocation, containerNetwork, GroupNics, guestOf } from '../support/allocation.ts';
import { Machine, must } from '../support/guest.ts';
import { inOwnNetns, type Namespace } from '../support/netns.ts';
import { waiting } from '../support/networks.ts';
import { patient } from '../support/patience.ts';
import { dhclient, dhcpcd } from '../support/six-clients.ts';
import { eventually } from '../support/vm.ts';

const address = '10.88.0.2';
const address6 = 'fd88::2';
const multicastMac = '33:33:00:00:00:01';
const metadata = 'fd00:ec2::254';
const cloudServer = 'fd00:ec2::253';

type Attached = Awaited<ReturnType<GroupNics['attach']>>;

const linkLocal = (mac: string): string => formatIpv6(linkLocalOf(mac));
const sixOf = ({ nic }: Attached): NonNullable<GroupNic['six']> =>
  nic.six ?? assert.fail('the NIC has no IPv6');
const links = (): string => readFileSync('/proc/thread-self/net/dev', 'utf8');

/** The guest, whose frames are written by the test itself, and the namespace's end of its link. */
function endsOf(attached: Attached): { readonly web: Ends6; readonly router: Ends6 } {
  const { guest, gateway } = sixOf(attached);
  const { mac } = attached;
  const theirs = tapMac(mac);
  return {
    web: { mac, ip: guest, linkLocal: linkLocal(mac) },
    router: { mac: theirs, ip: gateway, linkLocal: linkLocal(theirs) },
  };
}

/** Counts what of IPv6, tagged or not, comes past the rules for frames. */
async function watch({ namespace, path: _ }: Allocation, tap: string): Promise<void> {
  const rules = [
    'add table netdev seen',
    'add counter netdev seen last',
    'add counter netdev seen others',
    `add chain netdev seen seen { type filter hook ingress device "${tap}" priority 10; }`,
    'add rule netdev seen seen ip6 nexthdr udp udp dport 9999 counter name last return',
    'add rule netdev seen seen ether type { ip6, 0x8100, 0x88a8 } counter name others',
  ];
  await namespace.run('nft', rules.join('; '));
}

/** How many of the frames pass: they are handled in their order, and a last one always passes. */
async function passing(
  namespace: Namespace,
  { tapFd, web, router }: { tapFd: number; web: Ends6; router: Ends6 },
  frames: readonly Buffer[],
): Promise<number> {
  await namespace.run('nft', 'reset', 'counters');
  const ends = { mac: [web.mac, router.mac], ip: [web.ip, router.ip] } as const;
  for (const frame of frames) send(tapFd, frame);
  send(tapFd, frame6(ends, udp([9999, 9999])));
  const count = async (name: string): Promise<number> => {
    const listed = await namespace.run('nft', 'list', 'counter', 'netdev', 'seen', name);
    return Number(/packets (\d+)/.exec(listed)?.[1]);
  };
  const deadline = performance.now() + patient(5000);
  while ((await count('last')) === 0) {
    assert.ok(performance.now() < deadline, 'the last frame arrives');
    await sleep(5);
  }
  return count('others');
}

/** The kernel makes it a little after the link is up. */
async function readyLinkLocal(namespace: Namespace, tap: string): Promise<void> {
  const shown = ['-6', '-o', 'addr', 'show', 'dev', tap, 'scope', 'link', '-tentative'];
  const deadline = performance.now() + patient(5000);
  while ((await namespace.ip(...shown)) === '') {
    assert.ok(performance.now() < deadline, 'a link-local address');
    await sleep(5);
  }
}

/** How many connections a namespace tracks that an address has begun. */
function tracked(netns: string, ip: string): number {
  const hex = (parseIpv6(ip) ?? 0n).toString(16).padStart(32, '0');
  const text = hex.replace(/....(?=.)/g, '$&:');
  const table = withNetns(netns, () => readFileSync('/proc/thread-self/net/nf_conntrack', 'utf8'));
  return table.split('\n').filter((line) => line.includes(` src=${text} dst=`)).length;
}

inOwnNetns(
  import.meta.url,
  ['ip', 'nft', 'nsenter', 'cat', 'mount', 'dhclient', 'dhcpcd'],
  () => {
    test('what a guest in a group sends over IPv6 is from itself, and of no router or server', async (t) => {
      await containerNetwork({ port: 18_080, to: `${address}:80`, six: `[${address6}]:80` });
      await using allocation = await Allocation.open(address, address6);
      await using plugin = await GroupNics.open();
      const netns = allocation.path;
      const attached = await plugin.attach({ vm: 'web', netns });
      const other = await plugin.attach({ vm: 'other', netns });
      const { web, router } = endsOf(attached);
      const { namespace } = allocation;
      await watch(allocation, attached.nic.tap);
      const framed = ({ content, from = web.ip, to = router.ip }: Shot): Buffer => {
        const mac = [web.mac, to === allNodes ? multicastMac : router.mac] as const;
        return frame6({ mac, ip: [from, to] }, content);
      };
      const through = (frames: readonly Buffer[]): Promise<number> =>
        passing(namespace, { tapFd: attached.tapFd, web, router }, frames);
      // Each of fe80::/64 but the router's may be the guest's.
      const others = [sixOf(other).guest, address6, 'fe80:0:0:1::1', '2001:db8::1'];
      const foreign = [router.ip, router.linkLocal, '::1', ...others];
      const plain = framed({ content: hello });
      const sent: Readonly<Record<string, readonly Buffer[]>> = {
        ...Object.fromEntries(
          Object.entries(attacksOf(web, router, foreign)).map(([name, shots]) => [
            name,
            shots.map(framed),
          ]),
        ),
        'another MAC address': [
          frame6({ mac: [other.mac, router.mac], ip: [web.ip, router.ip] }, hello),
        ],
        'VLAN tags': [[0x8100], [0x88a8], [0x88a8, 0x8100]].map((types) => tagged(plain, ...types)),
      };
      for (const [name, frames] of Object.entries(sent)) {
        await t.test(`not ${name}`, async () => assert.equal(await through(frames), 0));
      }
      await t.test('no header has a checksum filled in late', async () => {
        const even = framed({ content: udp([6767, 7777], Buffer.alloc(20)) });
        assert.equal(await through([withForgedChecksum(even, 36, 0x0077)]), 0);
      });
      for (const [name, shots] of Object.entries(neededBy(web, router, router.ip))) {
        await t.test(`but ${name}`, async () =>
          assert.equal(await through(shots.map(framed)), shots.length),
        );
      }
      await t.test('each of them arrives without the rules', async () => {
        await namespace.run('nft', 'delete', 'table', 'netdev', attached.nic.tap);
        for (const [name, frames] of Object.entries(sent)) {
          assert.equal(await through(frames), frames.length, name);
        }
      });
      for (const { tapFd } of [attached, other]) closeFd(tapFd);
      for (const vm of ['web', 'other']) await plugin.detach(vm);
    });

    test('V-110 V-126: a guest in a group has route, address and name servers by router and DHCPv6, also of the next process', async () => {
      await using allocation = await Allocation.open(address, address6);
      await using container = await Allocation.open('10.88.0.3', 'fd88::3');
      await container.serve(7000, 'container', '::');
      await using first = await GroupNics.open();
      const attached = await first.attach({
        vm: 'web',
        netns: allocation.path,
        servers: ['192.0.2.53', '2001:db8::53'],
      });
      const { guest: own } = sixOf(attached);
      await using guest = await Machine.guest({ tapFd: attached.tapFd, mac: attached.mac });
      const routed = async (): Promise<void> => {
        const deadline = performance.now() + patient(15_000);
        while (!/proto ra/.test(await guest.namespace.ip('-6', 'route', 'show', 'default'))) {
          assert.ok(performance.now() < deadline, 'a route by the router');
          await sleep(20);
        }
      };
      await routed();
      assert.equal((await dhclient(guest))?.new_ip6_address, own);
      await using next = first.again();
      await next.groups.adopt(attached.nic, waiting());
      await first[Symbol.asyncDispose]();
      const again = await dhclient(guest);
      assert.equal(again?.new_ip6_address, own);
      assert.equal(again?.new_dhcp6_name_servers, '2001:db8::53');
      for (const off of [1, 0]) {
        await guest.namespace.run('sysctl', '-qw', `net.ipv6.conf.eth0.disable_ipv6=${off}`);
      }
      await routed();
      // It takes over what the kernel does with advertisements, so it comes last.
      const given = await dhcpcd(guest);
      assert.equal(given?.new_dhcp6_ia_na1_ia_addr1, own);
      assert.equal(await guest.ask('tcp', 'fd88::3', 7000), `container saw ${address6}`);
      assert.deepEqual(
        next.lines.filter((line) => /socket.* failed/.test(line)),
        [],
      );
      await guest.unplug();
      await next.detach('web');
    });

    test('metadata of clouds behind the host is closed to a guest in a group over IPv6 too', async () => {
      await using outside = await Machine.outside({
        link: 'out0',
        hostAddress: '192.0.2.1',
        address: '192.0.2.9',
        six: { hostAddress: '2001:db8::1', address: '2001:db8::9' },
      });
      for (const each of [metadata, cloudServer]) {
        await outside.namespace.ip('addr', 'add', `${each}/128`, 'dev', 'lo', 'nodad');
        await must('ip', '-6', 'route', 'add', `${each}/128`, 'via', '2001:db8::9');
      }
      await outside.serve(80, 'metadata', '::');
      await outside.serve(53, 'names', cloudServer);
      await using allocation = await Allocation.open(address, address6);
      await using plugin = await GroupNics.open();
      const netns = allocation.path;
      const web = await plugin.attach({ vm: 'web', netns, servers: [cloudServer] });
      await using guest = await guestOf(web);
      assert.match(await allocation.ask('tcp', metadata, 80), /^metadata saw/);
      assert.match(await guest.ask('udp', cloudServer, 53), /^names saw/);
      assert.match(await guest.ask('tcp', '2001:db8::9', 80), /^metadata saw/);
      await guest.askInVain('tcp', metadata, 80);
      await guest.askInVain('tcp', cloudServer, 80);
      await guest.unplug();
      await plugin.detach('web');
    });

    test('what a guest in a group makes the kernel track over IPv6 is bounded', async () => {
      await using allocation = await Allocation.open(address, address6);
      const maxConnections = 500;
      await using plugin = await GroupNics.open({ maxConnections });
      const attached = await plugin.attach({ vm: 'web', netns: allocation.path });
      const { web, router } = endsOf(attached);
      await readyLinkLocal(allocation.namespace, attached.nic.tap);
      const shoot = (ip: Ends6['ip'], to: string, content: Shot['content']): void => {
        send(attached.tapFd, frame6({ mac: [web.mac, router.mac], ip: [ip, to] }, content));
        received(attached.tapFd);
      };
      for (let each = 0; each < 3 * maxConnections; each++) {
        shoot(web.ip, 'fd88::3', udp([1024 + each, 9]));
        const number = Buffer.of(each >> 8, each & 0xff, 0, 0);
        shoot(web.linkLocal, router.linkLocal, icmpMessage(128, number));
      }
      const each = [web.ip, web.linkLocal].map((ip) => tracked(allocation.path, ip));
      const open = each.reduce((sum, one) => sum + one, 0);
      assert.ok(
        open > maxConnections / 2 && open <= maxConnections,
        `${each.join(' and ')} are open`,
      );
      closeFd(attached.tapFd);
      await plugin.detach('web');
    });

    test('V-118: rules for IPv6 come back, and the namespace of the group goes when Nomad removes it', async () => {
      await using allocation = await Allocation.open(address, address6);
      await using container = await Allocation.open('10.88.0.3', 'fd88::3');
      await using plugin = await GroupNics.open();
      const web = await plugin.attach({ vm: 'web', netns: allocation.path, ports: [80] });
      await using guest = await guestOf(web);
      await guest.serve(80, 'guest', '::');
      assert.equal(await container.ask('tcp', address6, 80), 'guest saw fd88::3');
      await allocation.namespace.run('nft', 'flush', 'ruleset');
      await container.askInVain('tcp', address6, 80);
      await plugin.groups.restore(waiting());
      assert.equal(await container.ask('tcp', address6, 80), 'guest saw fd88::3');
      assert.ok(links().includes(allocation.outerLink));
      await allocation.remove();
      await eventually(() => !links().includes(allocation.outerLink), 'the end of the namespace');
      await plugin.groups.restore(waiting());
      await guest.unplug();
      await plugin.detach('web');
    });

    test('routes that the namespace of a group has from a router stay when a guest comes', async () => {
      await using allocation = await Allocation.open(address, address6);
      const { namespace } = allocation;
      const learnt = async (): Promise<string> => {
        await namespace.ip(
          '-6',
          'route',
          'replace',
          '2001:db8:9::/64',
          'via',
          'fe80::9',
          'dev',
          'eth0',
          'proto',
          'ra',
          'expires',
          '600',
        );
        return namespace.run('sysctl', '-n', 'net.ipv6.conf.eth0.accept_ra');
      };
      await namespace.run('sysctl', '-qw', 'net.ipv6.conf.eth0.accept_ra=1');
      assert.equal(await learnt(), '1\n');
      await using plugin = await GroupNics.open();
      const web = await plugin.attach({ vm: 'web', netns: allocation.path });
      assert.equal(await namespace.run('sysctl', '-n', 'net.ipv6.conf.eth0.accept_ra'), '2\n');
      assert.equal(
        await namespace.run('sysctl', '-n', `net.ipv6.conf.${web.nic.tap}.accept_ra`),
        '0\n',
      );
      closeFd(web.tapFd);
      await plugin.detach('web');
    });

    test('in a network of IPv6 alone the ports of a guest in a group are reached at its address', async () => {
      await using allocation = await Allocation.open(address, address6);
      await using container = await Allocation.open('10.88.0.3', 'fd88::3');
      await allocation.namespace.ip('addr', 'del', `${address}/24`, 'dev', 'eth0');
      await using plugin = await GroupNics.open();
      const web = await plugin.attach({ vm: 'web', netns: allocation.path, ports: [80] });
      assert.equal(web.address, address6);
      await using guest = await guestOf(web);
      await guest.serve(80, 'guest', '::');
      assert.equal(await container.ask('tcp', address6, 80), 'guest saw fd88::3');
      await guest.unplug();
      await plugin.detach('web');
    });
  },
  300_000,
);
