import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd } from '#host';
import { formatIpv6, linkLocalOf, parseIpv6 } from '#spec';
import { hex } from '../../src/net/rules/anti-spoofing6.ts';
import { received, send } from '../net/frames.ts';
import {
  advertisement,
  allNodes,
  allServers,
  behind,
  type Content,
  fragment,
  frame6,
  icmpMessage,
  macOption,
  portOf6,
  solicitation,
  udp,
} from '../net/frames6.ts';
import { macOf } from '../support/accomplice.ts';
import { Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, type TestNic, virbr0, waiting } from '../support/networks.ts';
import { patient } from '../support/patience.ts';
import { dhclient, dhcpcd } from '../support/six-clients.ts';

const six = { ...virbr0, address6: 'fd12:3456:789a::1/64' };
const allRouters = 'ff02::2';

const ip6Of = (nic: TestNic): string => nic.address?.six?.ip ?? assert.fail('no IPv6 address');
const linkLocal = (mac: string): string => formatIpv6(linkLocalOf(mac));

async function reached<T>(
  look: () => Promise<T> | T,
  isReached: (seen: T) => boolean,
  eachMs = 20,
): Promise<T> {
  const deadline = performance.now() + patient(15_000);
  for (;;) {
    const seen = await look();
    if (isReached(seen)) return seen;
    assert.ok(performance.now() < deadline, `not reached: ${isReached}, but ${seen}`);
    await sleep(eachMs);
  }
}

async function linkLocalIn({ namespace }: Machine): Promise<string> {
  const shown = await namespace.ip('-6', '-o', 'addr', 'show', 'eth0', 'scope', 'link');
  return /fe80\S+(?=\/)/.exec(shown)?.[0] ?? assert.fail(shown);
}

/** A router solicitation, with the MAC address in it where one is given. */
const routerQuestion = (mac?: string): Content =>
  icmpMessage(133, Buffer.concat([Buffer.alloc(4), mac ? macOption('source', mac) : Buffer.of()]));
const dhcpQuestion = udp([546, 547], Buffer.alloc(40));

/** Frames of a guest. Those to all nodes, routers and servers have a MAC address of a group. */
function shoot(nic: TestNic, from: string, to: string, content: Content, mac?: string): void {
  const group = /^ff02/.test(to) ? '33:33:00:00:00:01' : (mac ?? 'ff:ff:ff:ff:ff:ff');
  send(nic.tapFd, frame6({ mac: [nic.mac, group], ip: [from, to] }, content));
}

/** Asks for the router until the driver has made the address the guest's own. */
async function admitted(nic: TestNic, from: string): Promise<void> {
  await reached(
    () => {
      shoot(nic, from, allRouters, routerQuestion());
      return ownersOf(from);
    },
    (taps) => taps.includes(nic.tap),
    // A guest may try six addresses at once, and then one in ten seconds.
    500,
  );
}

/** The taps whose address it is, by the rules. */
async function ownersOf(address: string): Promise<readonly string[]> {
  const elements = await elementsOf('addresses6');
  return elements.filter(([, each]) => each === address).map(([tap]) => tap);
}

async function elementsOf(set: string): Promise<readonly (readonly [string, string])[]> {
  const [, table = ''] = /bridge (\S+)/.exec(await must('nft', 'list', 'tables')) ?? [];
  const listed = await must('nft', 'list', 'set', 'bridge', table, set);
  return [...listed.matchAll(/"(\S+)" \. ([0-9a-f:]+)/g)].map(([, tap = '', it = '']) => [tap, it]);
}

/** What the kernel remembers of a link-local address: connections, and the neighbour. */
async function remembered(address: string): Promise<readonly string[]> {
  const inFull = hex(parseIpv6(address) ?? 0n).replace(/.{4}(?=.)/g, '$&:');
  const flows = readFileSync('/proc/net/nf_conntrack', 'utf8').split('\n');
  const known = (await neighbours()).split('\n');
  return [
    ...flows.filter((line) => line.includes(inFull)),
    ...known.filter((line) => line.startsWith(`${address} `)),
  ];
}

const neighbours = async (): Promise<string> => must('ip', '-6', 'neigh', 'show', 'dev', 'virbr0');

/** What the peer receives of what these do: all that came before a last frame that always arrives. */
async function seenBy(peer: TestNic, web: TestNic, act: () => void): Promise<readonly Buffer[]> {
  received(peer.tapFd);
  act();
  shoot(web, ip6Of(web), ip6Of(peer), udp([9999, 9999]), peer.mac);
  const seen: Buffer[] = [];
  await reached(
    () => {
      seen.push(...received(peer.tapFd));
      return seen;
    },
    (frames) => frames.some((frame) => portOf6(frame) === 9999),
  );
  const from = web.mac.replaceAll(':', '');
  return seen.filter((frame) => portOf6(frame) !== 9999 && frame.toString('hex', 6, 12) === from);
}

const chosen = 'fe80::1234:5678:9abc:def0';
const another = 'fe80::aaaa:5678:9abc:def1';

async function inTwos(
  run: (o: { host: Host; web: TestNic; peer: TestNic }) => Promise<void>,
): Promise<void> {
  await using host = await Host.open([six]);
  const [web, peer] = [await host.attach('web'), await host.attach('peer')];
  await run({ host, web, peer });
  for (const { tapFd } of [web, peer]) closeFd(tapFd);
  for (const vm of ['web', 'peer']) await host.detach(vm);
  assert.deepEqual(await leftovers(), nothing);
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat', 'busybox', 'dhcpcd'], () => {
  test('V-110 V-120: guests with random link-local addresses have IPv6 as any other', async () => {
    await using outside = await Machine.outside({
      link: 'out0',
      hostAddress: '192.0.2.1',
      address: '192.0.2.9',
      six: { hostAddress: '2001:db8:2::1', address: '2001:db8:2::9' },
    });
    await outside.serve(7000, 'outside', '::');
    await using host = await Host.open([six]);
    const [nic, other] = [await host.attach('web'), await host.attach('other')];
    await using guest = await Machine.guest({ ...nic, linkLocal: 'random' });
    await using otherGuest = await Machine.guest({ ...other, linkLocal: 'stable-privacy' });
    const router = linkLocal(await macOf('virbr0'));
    for (const each of [guest, otherGuest]) {
      await reached(
        () => each.namespace.ip('-6', 'route', 'show', 'default'),
        (shown) => shown.startsWith(`default via ${router} `),
      );
    }
    const own = await linkLocalIn(guest);
    const others = await linkLocalIn(otherGuest);
    assert.notEqual(own, linkLocal(nic.mac));
    assert.notEqual(others, linkLocal(other.mac));
    const given = await Promise.all([dhcpcd(guest), dhclient(otherGuest)]);
    assert.equal(given[0]?.new_dhcp6_ia_na1_ia_addr1, ip6Of(nic));
    assert.equal(given[1]?.new_ip6_address, ip6Of(other));
    assert.equal(await guest.ask('tcp', '2001:db8:2::9', 7000), 'outside saw 2001:db8:2::1');
    await otherGuest.namespace.ip('addr', 'add', `${ip6Of(other)}/64`, 'dev', 'eth0', 'nodad');
    await guest.serve(80, 'web', '::');
    assert.equal(await otherGuest.ask('tcp', ip6Of(nic), 80), `web saw ${ip6Of(other)}`);
    await otherGuest.namespace.run('busybox', 'ping', '-6', '-c1', '-W5', `${own}%eth0`);
    for (const each of [guest, otherGuest]) {
      await each.namespace.run('busybox', 'ping', '-6', '-c1', '-W5', `${router}%eth0`);
    }
    assert.ok((await remembered(own)).length > 1);
    await guest.unplug();
    await host.detach('web');
    assert.deepEqual(await remembered(own), []);
    assert.ok((await remembered(others)).length > 1);
    await otherGuest.unplug();
    await host.detach('other');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('with a link-local address of no guest one asks the host for its own, and sends nothing else', async () => {
    await inTwos(async ({ web, peer }) => {
      const bridge = await macOf('virbr0');
      const router = linkLocal(bridge);
      const seen = await seenBy(peer, web, () => {
        for (const to of [allNodes, allRouters, allServers, ip6Of(peer), linkLocal(peer.mac)]) {
          const contents = [
            udp([6767, 7777]),
            icmpMessage(128),
            solicitation(ip6Of(peer), macOption('source', web.mac)),
            advertisement(chosen, macOption('target', web.mac)),
            icmpMessage(134, Buffer.alloc(12)),
            routerQuestion(peer.mac),
            behind('options', routerQuestion()),
            fragment(routerQuestion(), 0),
            fragment(dhcpQuestion, 0, 16),
          ];
          for (const content of contents) shoot(web, chosen, to, content, peer.mac);
          shoot(web, '::', to, solicitation(chosen), peer.mac);
        }
        for (const content of [icmpMessage(128), solicitation(router), routerQuestion(peer.mac)]) {
          shoot(web, chosen, router, content, bridge);
        }
      });
      assert.deepEqual(
        seen.map((frame) => frame.toString('hex')),
        [],
      );
      assert.deepEqual(await elementsOf('strangers'), []);
      assert.ok(!(await neighbours()).includes(chosen), 'the host has not heard of it');
      // What it may send reaches the host alone.
      const asked = await seenBy(peer, web, () => {
        shoot(web, chosen, allRouters, routerQuestion(web.mac));
        shoot(web, another, allServers, dhcpQuestion);
      });
      assert.deepEqual(asked, []);
      const tried = await elementsOf('strangers');
      assert.deepEqual(
        tried.toSorted(),
        [
          [web.tap, chosen],
          [web.tap, another],
        ].toSorted(),
      );
    });
  });

  test('the link-local address that a guest chose is its own: first come, first served', async (t) => {
    await inTwos(async ({ host, web, peer }) => {
      await admitted(web, chosen);
      const forged = (): void => {
        const contents = [
          udp([6767, 7777]),
          icmpMessage(128),
          routerQuestion(),
          routerQuestion(peer.mac),
          dhcpQuestion,
          solicitation(ip6Of(web), macOption('source', peer.mac)),
          advertisement(chosen, macOption('target', peer.mac)),
        ];
        for (const to of [allNodes, web.address?.six?.ip ?? '', chosen]) {
          for (const content of contents) shoot(peer, chosen, to, content, web.mac);
          for (const from of [ip6Of(peer), linkLocal(peer.mac)]) {
            shoot(peer, from, to, advertisement(chosen, macOption('target', peer.mac)), web.mac);
          }
          shoot(peer, '::', to, solicitation(chosen), web.mac);
        }
      };
      const holds = async (): Promise<void> => {
        const passing = await seenBy(peer, web, () => {
          shoot(web, chosen, ip6Of(peer), udp([6767, 7777]), peer.mac);
          shoot(web, chosen, ip6Of(peer), icmpMessage(128), peer.mac);
          shoot(web, '::', allNodes, solicitation(chosen));
          const answer = advertisement(chosen, macOption('target', web.mac));
          shoot(web, chosen, linkLocal(peer.mac), answer, peer.mac);
        });
        assert.equal(passing.length, 4);
        assert.deepEqual(await seenBy(web, peer, forged), []);
        assert.deepEqual(await ownersOf(chosen), [web.tap]);
        assert.doesNotMatch(await neighbours(), new RegExp(`${chosen} lladdr ${peer.mac}`));
      };
      await t.test('for the others', holds);
      const isContest = (event: string): boolean => event.includes('link-local');
      await t.test('which the other VM has an event about, once', async () => {
        for (let times = 0; times < 2; times++) await host.networks.init(waiting());
        assert.deepEqual(host.events.filter(isContest), [
          `peer: Its link-local address ${chosen} on virbr0 is that of VM web as well: the guest gets no answer about IPv6 there. ` +
            'Guests made from one image choose the same one where the image has a machine-id or secret_key: remove /etc/machine-id and ' +
            '/var/lib/NetworkManager/secret_key from it, or have guests make the address from their MAC addresses',
        ]);
      });
      await t.test('after the rules were flushed', async () => {
        await must('nft', 'flush', 'ruleset');
        await host.networks.init(waiting());
        await holds();
      });
      await t.test('for the next plugin', async () => {
        await host.networks[Symbol.asyncDispose]();
        await using restarted = host.again([six]);
        for (const [vm, { record }] of [
          ['web', web],
          ['peer', peer],
        ] as const) {
          await restarted.networks.adopt({ vm, index: 0, record }, waiting());
        }
        await holds();
        await admitted(peer, another);
        await holds();
        const asked = await elementsOf('contested');
        assert.ok(asked.some(([tap, address]) => tap === peer.tap && address === chosen));
        await restarted.networks.init(waiting());
        assert.deepEqual(restarted.events.filter(isContest), []);
      });
    });
  });

  test('neither the address of the router, of the host, nor of a guest is admitted to another', async () => {
    await inTwos(async ({ web, peer }) => {
      await must('ip', 'addr', 'add', 'fe80::1/64', 'dev', 'virbr0', 'nodad');
      const taken = [linkLocal(await macOf('virbr0')), linkLocal(peer.mac), 'fe80::1'];
      for (const from of taken) shoot(web, from, allRouters, routerQuestion());
      // Questions are looked at in their order.
      await admitted(web, chosen);
      for (const from of taken) assert.ok(!(await ownersOf(from)).includes(web.tap), from);
    });
  });

  test('one that tries address after address fills no table, and has the latest four', async () => {
    await inTwos(async ({ web, peer }) => {
      const since = performance.now();
      for (let each = 0; each < 1000; each++) {
        shoot(web, `fe80::${(each + 0x1000).toString(16)}:1`, allRouters, routerQuestion(web.mac));
      }
      await admitted(peer, chosen);
      const own = (await elementsOf('addresses6')).filter(
        ([tap, address]) => tap === web.tap && address.startsWith('fe80'),
      );
      const most = 8 + (performance.now() - since) / 10_000;
      const tried = (await elementsOf('strangers')).filter(([tap]) => tap === web.tap);
      assert.ok(tried.length <= most, `${tried.length} were tried, not ${most}`);
      const known = (await neighbours()).match(/fe80::1\S*:1 /g) ?? [];
      assert.ok(known.length <= most, `${known.length} neighbours, not ${most}`);
      assert.equal(own.length, 1 + 4, own.join(' '));
      // It still has the one of its MAC address.
      assert.ok(own.some(([, address]) => address === linkLocal(web.mac)));
    });
  });
});
