import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd } from '#host';
import { formatIpv6, linkLocalOf } from '#spec';
import { tapMac } from '../../src/net/model/names.ts';
import { send } from '../net/frames.ts';
import { type Content, frame6, icmpMessage, solicitation, syn, udp } from '../net/frames6.ts';
import { Allocation, containerNetwork, GroupNics } from '../support/allocation.ts';
import { Machine } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { waiting } from '../support/networks.ts';
import { patient } from '../support/patience.ts';
import { dhcpcd } from '../support/six-clients.ts';

const address = '10.88.0.2';
const address6 = 'fd88::2';
const chosen = 'fe80::1234:5678:9abc:def0';
const allRouters = 'ff02::2';

const linkLocal = (mac: string): string => formatIpv6(linkLocalOf(mac));

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat', 'mount', 'busybox', 'dhcpcd'], () => {
  test('V-110 V-126: a guest in a group with a random link-local address has IPv6 as any other, also after a flush of the rules', async () => {
    await containerNetwork({ port: 18_080, to: `${address}:80`, six: `[${address6}]:80` });
    await using allocation = await Allocation.open(address, address6);
    await using container = await Allocation.open('10.88.0.3', 'fd88::3');
    await container.serve(7000, 'container', '::');
    await using plugin = await GroupNics.open();
    const { nic, mac, tapFd } = await plugin.attach({ vm: 'web', netns: allocation.path });
    assert.ok(nic.six !== undefined);
    await using guest = await Machine.guest({ tapFd, mac, linkLocal: 'stable-privacy' });
    const router = linkLocal(tapMac(mac));
    const deadline = performance.now() + patient(15_000);
    const routes = ['-6', 'route', 'show', 'default'] as const;
    while (!(await guest.namespace.ip(...routes)).startsWith(`default via ${router} `)) {
      assert.ok(performance.now() < deadline, 'a route by the router');
      await sleep(20);
    }
    assert.equal((await dhcpcd(guest))?.new_dhcp6_ia_na1_ia_addr1, nic.six.guest);
    assert.equal(await guest.ask('tcp', 'fd88::3', 7000), `container saw ${address6}`);
    await allocation.namespace.run('nft', 'flush', 'ruleset');
    await plugin.groups.restore(waiting());
    assert.equal((await dhcpcd(guest))?.new_dhcp6_ia_na1_ia_addr1, nic.six.guest);
    await guest.namespace.ip('-6', 'neigh', 'flush', 'dev', 'eth0');
    await guest.namespace.run('busybox', 'ping', '-6', '-c1', '-W5', nic.six.gateway);
    await guest.unplug();
    await plugin.detach('web');
  });

  test('with a random link-local address a guest in a group does nothing but find its router and its address', async () => {
    await using allocation = await Allocation.open(address, address6);
    await using plugin = await GroupNics.open();
    const { nic, mac, tapFd } = await plugin.attach({ vm: 'web', netns: allocation.path });
    assert.ok(nic.six !== undefined);
    const router = linkLocal(tapMac(mac));
    const { namespace } = allocation;
    const rules = [
      'add table inet seen',
      'add chain inet seen seen { type filter hook input priority -10; }',
      `add rule inet seen seen iifname ${nic.tap} ip6 saddr { ${chosen}, ${router} } counter`,
      `add rule inet seen seen iifname ${nic.tap} udp dport 9999 counter`,
    ];
    await namespace.run('nft', rules.join('; '));
    const shoot = (from: string, to: string, content: Content): void =>
      send(tapFd, frame6({ mac: [mac, tapMac(mac)], ip: [from, to] }, content));
    const question = icmpMessage(133);
    shoot(chosen, allRouters, question);
    shoot(chosen, router, udp([6767, 7777]));
    shoot(chosen, router, syn([6767, 7777]));
    for (const type of [1, 128, 129, 137, 134, 200]) shoot(chosen, router, icmpMessage(type));
    shoot(router, allRouters, question);
    shoot(router, nic.six.gateway, solicitation(nic.six.gateway));
    shoot(nic.six.guest, nic.six.gateway, udp([9999, 9999]));
    const counted = async (): Promise<readonly number[]> => {
      const listed = await namespace.run('nft', 'list', 'table', 'inet', 'seen');
      return [...listed.matchAll(/packets (\d+)/g)].map(([, count]) => Number(count));
    };
    const deadline = performance.now() + patient(5000);
    while ((await counted())[1] !== 1) {
      assert.ok(performance.now() < deadline, 'the last frame arrives');
      await sleep(5);
    }
    assert.deepEqual(await counted(), [0, 1]);
    // An address that is learnt is one of few: the namespace looks for none of the others.
    for (let each = 0; each < 100; each++) {
      shoot(`fe80::${(0x1000 + each).toString(16)}`, router, solicitation(router));
    }
    const set = await namespace.run('nft', 'list', 'set', 'netdev', nic.tap, 'addresses6');
    const learnt = [...set.matchAll(/ \. fe80:/g)].length;
    assert.ok(learnt > 1 && learnt <= 8, set);
    closeFd(tapFd);
    await plugin.detach('web');
  });
});
