import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd } from '#host';
import { formatIpv6, linkLocalOf } from '#spec';
import { readSysctl, writeSysctls } from '../../src/net/model/sysctl.ts';
import { received, send } from '../net/frames.ts';
import {
  allServers,
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
const gateway = 'fd12:3456:789a::1';

const ip6Of = (nic: TestNic): string => nic.address?.six?.ip ?? assert.fail('no IPv6 address');
const linkLocal = (mac: string): string => formatIpv6(linkLocalOf(mac));
const router = async (): Promise<string> => linkLocal(await macOf('virbr0'));

const routes = ['-6', 'route', 'show', 'default'] as const;
const addresses = ['-6', '-o', 'addr', 'show', 'dev', 'eth0', 'scope', 'global'] as const;

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

const routed = (guest: Machine): Promise<string> =>
  reached(
    () => guest.namespace.ip(...routes),
    (shown) => shown.includes('default'),
  );

const duidOf = (mac: string): Buffer => Buffer.from(`00030001${mac.replaceAll(':', '')}`, 'hex');

/** A DHCPv6 message of a client that solicits an address at once. */
function solicitation6(duid: Buffer, transaction: number): Buffer<ArrayBuffer> {
  const header = Buffer.alloc(4);
  header.writeUInt32BE(transaction);
  header[0] = 1;
  const options = { 1: duid, 3: Buffer.alloc(12), 14: Buffer.alloc(0) };
  const parts = Object.entries(options).map(([code, value]) =>
    Buffer.concat([Buffer.of(0, Number(code), 0, value.length), value]),
  );
  return Buffer.concat([header, ...parts]);
}

/** Asks as the guest, by default with its own link-local address and identifier. */
function solicit(
  nic: TestNic,
  { from = linkLocal(nic.mac), duid = duidOf(nic.mac), transaction = 1 } = {},
): void {
  const ends = { mac: [nic.mac, '33:33:00:01:00:02'], ip: [from, allServers] } as const;
  send(nic.tapFd, frame6(ends, udp([546, 547], solicitation6(duid, transaction))));
}

/** The DHCPv6 replies that have come to a tap, as `transaction address`. */
function replies(nic: TestNic): readonly string[] {
  return received(nic.tapFd)
    .filter((frame) => portOf6(frame) === 546)
    .map((frame) => {
      const address = /fd123456789a0{4}[0-9a-f]{16}/.exec(frame.toString('hex', 66))?.[0];
      const given = address === undefined ? 'none' : formatIpv6(BigInt(`0x${address}`));
      return `${frame.readUIntBE(63, 3)} ${given}`;
    });
}

/** Asks for the router, as guests do before they send to it: the host knows by that at which MAC address they are. */
async function greet(nic: TestNic): Promise<void> {
  const to = await router();
  const question = solicitation(to, macOption('source', nic.mac));
  for (const from of [linkLocal(nic.mac), ip6Of(nic)]) {
    send(nic.tapFd, frame6({ mac: [nic.mac, await macOf('virbr0')], ip: [from, to] }, question));
  }
}

/** Asks until there is an answer: the first frames of a tap may come before its bridge takes any. */
async function begin(nic: TestNic): Promise<void> {
  await reached(
    async () => {
      await greet(nic);
      solicit(nic);
      return replies(nic);
    },
    (them) => them.length > 0,
    // Less often than the rules limit it.
    100,
  );
}

/** Asks once more: all replies up to that to this question, but those to `begin`. */
async function answersUntilNow(nic: TestNic): Promise<readonly string[]> {
  const transaction = 0xffffff;
  const found: string[] = [];
  solicit(nic, { transaction });
  await reached(
    () => {
      found.push(...replies(nic));
      return found;
    },
    (them) => them.some((each) => each.startsWith(`${transaction} `)),
  );
  return found.filter((each) => !/^(1|16777215) /.test(each));
}

inOwnNetns(
  import.meta.url,
  ['ip', 'nft', 'nsenter', 'cat', 'busybox', 'dhclient', 'dhcpcd'],
  () => {
    test('V-110 V-120: a guest without cloud-init has route and address over IPv6 by the router and DHCPv6', async () => {
      await using outside = await Machine.outside({
        link: 'out0',
        hostAddress: '192.0.2.1',
        address: '192.0.2.9',
        six: { hostAddress: '2001:db8:2::1', address: '2001:db8:2::9' },
      });
      await outside.serve(7000, 'outside', '::');
      await using host = await Host.open([{ ...six, mtu: 1400 }]);
      const nic = await host.attach('web');
      await using guest = await Machine.guest(nic);
      const before = await routed(guest);
      assert.match(before, new RegExp(`^default via ${await router()} dev eth0 proto ra`));
      assert.match(before, /mtu 1400/);
      const prefix = await guest.namespace.ip('-6', 'route', 'show', 'fd12:3456:789a::/64');
      assert.match(prefix, /dev eth0 proto kernel/);
      assert.equal(await guest.namespace.ip(...addresses), '', 'none is made from the prefix');
      const given = await dhcpcd(guest);
      assert.equal(given?.new_dhcp6_ia_na1_ia_addr1, ip6Of(nic));
      assert.match(await guest.namespace.ip(...addresses), new RegExp(` ${ip6Of(nic)}/128 `));
      assert.equal((await guest.namespace.ip(...routes)).trim().split('\n').length, 1);
      assert.equal(await guest.ask('tcp', '2001:db8:2::9', 7000), 'outside saw 2001:db8:2::1');
      await guest.unplug();
      await host.detach('web');
      assert.deepEqual(await leftovers(), nothing);
    });

    test('V-121: each guest is given its own address, at each time, also with rapid commit', async () => {
      await using host = await Host.open([six]);
      const [web, db] = [await host.attach('web'), await host.attach('db')];
      await using webGuest = await Machine.guest(web);
      await using dbGuest = await Machine.guest(db);
      const given = await Promise.all([webGuest, dbGuest].map((guest) => dhclient(guest)));
      assert.deepEqual(
        given.map((each) => each?.new_ip6_address),
        [ip6Of(web), ip6Of(db)],
      );
      const rapid = await dhcpcd(webGuest, '-o', 'rapid_commit');
      assert.equal(rapid?.new_dhcp6_ia_na1_ia_addr1, ip6Of(web));
      for (const guest of [webGuest, dbGuest]) await guest.unplug();
      for (const vm of ['web', 'db']) await host.detach(vm);
    });

    test('V-126: a guest without cloud-init gets name servers and domains of its own job over IPv6', async () => {
      await using host = await Host.open([six]);
      const dns = { servers: ['203.0.113.9', '2001:db8::53'], searches: ['lan.example'] };
      const nic = await host.attach('own', { dns });
      await using guest = await Machine.guest(nic);
      const given = await dhclient(guest);
      assert.deepEqual(
        [given?.new_dhcp6_name_servers, given?.new_dhcp6_domain_search],
        ['2001:db8::53', 'lan.example.'],
      );
      // Those of a guest whose job has none are the network's own.
      const other = await host.attach('other');
      await using otherGuest = await Machine.guest(other);
      const plain = await dhclient(otherGuest);
      assert.deepEqual(
        [plain?.new_dhcp6_name_servers, plain?.new_dhcp6_domain_search],
        [gateway, 'virbr0.internal.'],
      );
      await otherGuest.unplug();
      await host.detach('other');
      await guest.unplug();
      await host.detach('own');
    });

    test('V-124: a guest whose address is static has no other, and none gets a default route it must not have', async () => {
      await using host = await Host.open([six]);
      const [web, beside] = [
        await host.attach('web'),
        await host.attach('beside', { isDefaultRoute: false }),
      ];
      await using webGuest = await Machine.guest(web);
      await using besideGuest = await Machine.guest(beside);
      await webGuest.configure(web.address);
      const both = await reached(
        () => webGuest.namespace.ip(...routes),
        (shown) => shown.includes('proto ra'),
      );
      // The same router by both of its addresses.
      assert.deepEqual(
        [...both.matchAll(/via (\S+)/g)].map(([, via]) => via).toSorted(),
        [gateway, await router()].toSorted(),
      );
      assert.equal((await webGuest.namespace.ip(...addresses)).trim().split('\n').length, 1);
      await webGuest.namespace.run('busybox', 'ping', '-6', '-c1', '-W2', gateway);
      // It has heard of the router as well, by the prefix.
      await reached(
        () => besideGuest.namespace.ip('-6', 'route', 'show', 'fd12:3456:789a::/64'),
        (shown) => shown.includes('proto kernel'),
      );
      assert.equal(await besideGuest.namespace.ip(...routes), '');
      for (const guest of [webGuest, besideGuest]) await guest.unplug();
      for (const vm of ['web', 'beside']) await host.detach(vm);
    });

    test('after a restart of the plugin guests are answered as before, beside the old one and without it', async () => {
      await using host = await Host.open([six]);
      const nic = await host.attach('web');
      await using guest = await Machine.guest(nic);
      await using restarted = host.again([six]);
      await restarted.networks.adopt({ vm: 'web', index: 0, record: nic.record }, waiting());
      assert.equal((await dhclient(guest))?.new_ip6_address, ip6Of(nic), 'both answer');
      await host.networks[Symbol.asyncDispose]();
      assert.equal((await dhclient(guest))?.new_ip6_address, ip6Of(nic), 'the new one answers');
      await guest.namespace.ip('-6', 'route', 'flush', 'proto', 'ra');
      await guest.namespace.ip('link', 'set', 'eth0', 'down');
      await guest.namespace.ip('link', 'set', 'eth0', 'up');
      await routed(guest);
      await guest.unplug();
      await restarted.detach('web');
      assert.deepEqual(await leftovers(), nothing);
    });

    test('a guest gets its own address only, whatever it names as its own', async () => {
      await using host = await Host.open([six]);
      const [web, peer] = [await host.attach('web'), await host.attach('peer')];
      await begin(web);
      await begin(peer);
      solicit(web, { duid: duidOf(peer.mac), transaction: 2 });
      const elsewhere = [linkLocal(peer.mac), 'fe80::1', '::', ip6Of(peer), ip6Of(web)];
      for (const from of elsewhere) solicit(web, { from, transaction: 3 });
      assert.deepEqual(await answersUntilNow(web), [`2 ${ip6Of(web)}`]);
      assert.deepEqual(await answersUntilNow(peer), []);
      for (const { tapFd } of [web, peer]) closeFd(tapFd);
      for (const vm of ['web', 'peer']) await host.detach(vm);
    });

    test('rubbish for the router and the DHCPv6 server does no harm', async () => {
      await using host = await Host.open([six]);
      const nic = await host.attach('web');
      const shoot = (content: Parameters<typeof frame6>[1], to: string, mac: string): void =>
        send(nic.tapFd, frame6({ mac: [nic.mac, mac], ip: [linkLocal(nic.mac), to] }, content));
      for (const size of [0, 1, 3, 4, 5, 8, 40, 1400]) {
        const bytes = randomBytes(size);
        const typed = Buffer.from(bytes);
        if (size > 0) typed[0] = 1;
        for (const each of [bytes, typed]) {
          shoot(udp([546, 547], each), allServers, '33:33:00:01:00:02');
        }
        shoot(icmpMessage(133, bytes), 'ff02::2', '33:33:00:00:00:02');
      }
      await using guest = await Machine.guest(nic);
      assert.equal((await dhclient(guest))?.new_ip6_address, ip6Of(nic));
      await routed(guest);
      await guest.unplug();
      await host.detach('web');
    });

    test('a guest that asks all the time is answered at a limited rate, and the others as ever', async () => {
      await using host = await Host.open([six]);
      const [web, peer] = [await host.attach('web'), await host.attach('peer')];
      await begin(web);
      await begin(peer);
      const since = performance.now();
      for (let each = 0; each < 500; each++) solicit(web, { transaction: 2 });
      // Answered after those: the queries are answered in the order in which they come.
      assert.deepEqual(await answersUntilNow(peer), []);
      const most = 41 + (20 * (performance.now() - since)) / 1000;
      const answered = replies(web).length;
      assert.ok(answered > 0 && answered <= most, `${answered}, not ${most}`);
      for (const { tapFd } of [web, peer]) closeFd(tapFd);
      for (const vm of ['web', 'peer']) await host.detach(vm);
    });

    test('the router announces itself also where links of this host make no link-local addresses', async () => {
      const none = '1';
      const mode = 'net/ipv6/conf/default/addr_gen_mode';
      const before = readSysctl(mode) ?? '0';
      await writeSysctls({ [mode]: none });
      await using host = await Host.open([six]);
      const nic = await host.attach('web');
      await writeSysctls({ [mode]: before });
      await using guest = await Machine.guest(nic);
      await routed(guest);
      await guest.unplug();
      await host.detach('web');
    });

    const silent = {
      'with IPv4 only': { ...virbr0, address6: undefined },
      'without DHCP': { ...six, dhcp: false },
      'on a bridge of others': six,
    } as const;
    for (const [name, network] of Object.entries(silent)) {
      test(`in a network ${name} there are neither router advertisements nor DHCPv6`, async () => {
        if (name === 'on a bridge of others') {
          await must('ip', 'link', 'add', 'virbr0', 'type', 'bridge');
          await must('ip', 'addr', 'add', '192.168.122.1/24', 'dev', 'virbr0');
          await must('ip', 'addr', 'add', `${gateway}/64`, 'dev', 'virbr0', 'nodad');
          await must('ip', 'link', 'set', 'virbr0', 'up');
        }
        await using host = await Host.open([network]);
        const nic = await host.attach('web');
        const started = host.lines.filter((line) => line.startsWith('router advertisements'));
        assert.deepEqual(started, []);
        closeFd(nic.tapFd);
        await host.detach('web');
        if (name === 'on a bridge of others') await must('ip', 'link', 'del', 'virbr0');
      });
    }
  },
);
