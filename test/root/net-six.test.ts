import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { closeFd } from '#host';
import { formatIpv6, linkLocalOf, type ManagedNetwork, parseIpv6 } from '#spec';
import { readSysctl, writeSysctls } from '../../src/net/model/sysctl.ts';
import { received, send, udpFrame } from '../net/frames.ts';
import { frame6, icmpMessage, udp } from '../net/frames6.ts';
import { macOf } from '../support/accomplice.ts';
import { askFromHost, Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, type TestNic, virbr0, waiting } from '../support/networks.ts';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';

const six = { ...virbr0, address6: 'fd12:3456:789a::1/64' };
const gateway = 'fd12:3456:789a::1';
const netfilter = 'net/bridge/bridge-nf-call-ip6tables';

const outsideMachine = () =>
  Machine.outside({
    link: 'out0',
    hostAddress: '192.0.2.1',
    address: '192.0.2.9',
    six: { hostAddress: '2001:db8:2::1', address: '2001:db8:2::9' },
  });

const ip6Of = (nic: TestNic): string => nic.address?.six?.ip ?? assert.fail('no IPv6 address');

/** Two guests in the network, the first of which serves at these ports. */
async function withGuests(
  managed: ManagedNetwork,
  serves: readonly number[],
  run: (o: {
    host: Host;
    web: TestNic;
    peer: TestNic;
    webGuest: Machine;
    peerGuest: Machine;
  }) => Promise<void>,
): Promise<void> {
  await using host = await Host.open([managed]);
  const port = { label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 };
  const [web, peer] = [await host.attach('web', { ports: [port] }), await host.attach('peer')];
  await using webGuest = await Machine.guest(web);
  await using peerGuest = await Machine.guest(peer);
  await webGuest.configure(web.address);
  await peerGuest.configure(peer.address);
  for (const port of serves) await webGuest.serve(port, 'guest', '::');
  await run({ host, web, peer, webGuest, peerGuest });
  for (const guest of [webGuest, peerGuest]) await guest.unplug();
  for (const vm of ['web', 'peer']) await host.detach(vm);
  assert.deepEqual(await leftovers(), nothing);
}

/** How many connections the kernel tracks in which that address is one end. */
function tracked(ip: string): number {
  const hex = (parseIpv6(ip) ?? 0n).toString(16).padStart(32, '0');
  return tracked4(hex.replace(/....(?=.)/g, '$&:'));
}

/** The same of an address as the kernel writes it. */
function tracked4(text: string): number {
  const lines = readFileSync('/proc/net/nf_conntrack', 'utf8').split('\n');
  return lines.filter((line) => line.includes(`=${text} `)).length;
}

/** Something that listens on the host, by default at every address. */
async function listen(port: number, address = '::'): Promise<AsyncDisposable> {
  const server = createServer((_, response) => response.end('the host saw you'));
  await new Promise<void>((resolve) => server.listen(port, address, resolve));
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

inOwnNetns(
  import.meta.url,
  ['ip', 'nft', 'nsenter', 'cat', 'busybox'],
  () => {
    test('guests of a network with IPv6 reach each other, the gateway and what is outside', async (t) => {
      await must('ip', 'link', 'set', 'lo', 'up');
      await using outside = await outsideMachine();
      await outside.serve(7000, 'outside', '::');
      await using host = await Host.open([six]);
      const [web, other] = [await host.attach('web'), await host.attach('other')];
      await using webGuest = await Machine.guest(web);
      await using otherGuest = await Machine.guest(other);
      await webGuest.configure(web.address);
      await otherGuest.configure(other.address);
      await webGuest.serve(80, 'web', '::');
      const webIp = web.address?.six?.ip ?? '';
      const otherIp = other.address?.six?.ip ?? '';
      for (const protocol of ['tcp', 'udp'] as const) {
        await t.test(`${protocol}: VM to VM`, async () => {
          assert.equal(await otherGuest.ask(protocol, webIp, 80), `web saw ${otherIp}`);
        });
        await t.test(`${protocol}: from the host at the guest`, async () => {
          assert.equal(await askFromHost(protocol, webIp, 80), `web saw ${gateway}`);
        });
        await t.test(`${protocol}: a VM to outside is seen as the host`, async () => {
          const answer = await webGuest.ask(protocol, '2001:db8:2::9', 7000);
          assert.equal(answer, 'outside saw 2001:db8:2::1');
        });
      }
      await webGuest.namespace.run('busybox', 'ping', '-6', '-c1', '-W2', gateway);
      await webGuest.unplug();
      await otherGuest.unplug();
      await host.detach('web');
      await host.detach('other');
      assert.deepEqual(await leftovers(), nothing);
    });

    test('V-112 V-113 V-114 V-115: ports are reached over IPv6 as over IPv4', async (t) => {
      await must('ip', 'link', 'set', 'lo', 'up');
      await using outside = await outsideMachine();
      await using host = await Host.open([six]);
      const port = (hostIp: string, hostPort: number) => ({
        label: `p${hostPort}`,
        hostIp,
        hostPort,
        guestPort: 80,
      });
      const ports = [port('2001:db8:2::1', 8080), port('', 8082)];
      const [web, peer] = [await host.attach('web', { ports }), await host.attach('peer')];
      await using webGuest = await Machine.guest(web);
      await using peerGuest = await Machine.guest(peer);
      await webGuest.configure(web.address);
      await peerGuest.configure(peer.address);
      await webGuest.serve(80, 'web', '::');
      const saw = (address: string): string => `web saw ${address}`;
      for (const protocol of ['tcp', 'udp'] as const) {
        const cases: Readonly<Record<string, readonly [Promise<string>, string]>> = {
          'from outside': [outside.ask(protocol, '2001:db8:2::1', 8080), saw('2001:db8:2::9')],
          'from outside, on every address': [
            outside.ask(protocol, '2001:db8:2::1', 8082),
            saw('2001:db8:2::9'),
          ],
          'from the host': [askFromHost(protocol, '2001:db8:2::1', 8080), saw('2001:db8:2::1')],
          'from the host, on every address': [askFromHost(protocol, gateway, 8082), saw(gateway)],
          'from another VM': [peerGuest.ask(protocol, '2001:db8:2::1', 8080), saw(gateway)],
          'from another VM at the gateway': [peerGuest.ask(protocol, gateway, 8082), saw(gateway)],
          'a VM at its own port': [webGuest.ask(protocol, gateway, 8082), saw(gateway)],
        };
        for (const [name, [answer, expected]] of Object.entries(cases)) {
          await t.test(`${protocol}: ${name}`, async () => assert.equal(await answer, expected));
        }
      }
      await t.test(
        'on every address they are refused at ::1, so that 127.0.0.1 is tried',
        async () => assert.match(await askFromHost('tcp', '::1', 8082), /ECONNREFUSED/),
      );
      await t.test('those at ::1 lead to the guest, where br_netfilter lets them', async () => {
        const own = { ports: [port('::1', 8083)] };
        if (readSysctl(netfilter) !== undefined) {
          await writeSysctls({ [netfilter]: '1' });
          const refused = /VM alone: ports on ::1 need net\.bridge\.bridge-nf-call-ip6tables=0/;
          await assert.rejects(host.attach('alone', own), refused);
          await host.detach('alone');
          await writeSysctls({ [netfilter]: '0' });
        }
        const nic = await host.attach('alone', own);
        await using guest = await Machine.guest(nic);
        await guest.configure(nic.address);
        await guest.serve(80, 'alone', '::');
        for (const protocol of ['tcp', 'udp'] as const) {
          assert.equal(await askFromHost(protocol, '::1', 8083), `alone saw ${gateway}`);
        }
        // The kernel removes a link's routes when it goes down.
        await must('ip', 'link', 'set', 'virbr0', 'down');
        await must('ip', 'link', 'set', 'virbr0', 'up');
        await host.networks.init(waiting());
        assert.equal(await askFromHost('tcp', '::1', 8083), `alone saw ${gateway}`);
        if (readSysctl(netfilter) !== undefined) {
          await writeSysctls({ [netfilter]: '1' });
          for (const _look of ['first', 'second']) await host.networks.init(waiting());
          const about = host.events.filter((event) => event.includes('::1'));
          assert.equal(about.length, 1);
          assert.match(
            about[0] ?? '',
            /^alone: Ports at ::1 do not answer with net\.bridge\S+=1: /,
          );
        }
        await guest.unplug();
        await host.detach('alone');
      });
      await t.test('a port that is taken over IPv6 is refused', async () => {
        const other = host.attach('other', { ports: [port('2001:db8:2::1', 8082)] });
        await assert.rejects(
          other,
          /port p8082 on \[2001:db8:2::1\]:8082 is already mapped to VM web/,
        );
        await host.detach('other');
        await using _ = await listen(8090, '2001:db8:2::1');
        const listened = host.attach('other', {
          ports: [port('', 8091), port('2001:db8:2::1', 8090)],
        });
        await assert.rejects(listened, /a program of this host listens there already/);
        await host.detach('other');
      });
      for (const guest of [webGuest, peerGuest]) await guest.unplug();
      for (const vm of ['web', 'peer']) await host.detach(vm);
      await using only4 = await Host.open();
      const nowhere = only4.attach('b', { ports: [port('2001:db8:2::1', 8080)] });
      await assert.rejects(nowhere, /network virbr0 has IPv4 only/);
      await only4.detach('b');
      assert.deepEqual(await leftovers(), nothing);
    });

    test('over IPv6 too the host is closed to guests but for what is listed', async () => {
      await using _api = await listen(4646);
      await using _listed = await listen(8500);
      await withGuests({ ...six, hostPorts: ['tcp/8500'] }, [], async ({ webGuest }) => {
        const mac = await macOf('virbr0');
        const linkLocal = (
          await must('ip', '-6', '-o', 'addr', 'show', 'dev', 'virbr0', 'scope', 'link')
        ).match(/inet6 (fe80\S+)\//)?.[1];
        assert.ok(linkLocal !== undefined, mac);
        for (const name of [gateway, '2001:db8:9::1', `${linkLocal}%eth0`]) {
          if (name.startsWith('2001')) await must('ip', 'addr', 'add', `${name}/64`, 'dev', 'lo');
          const connect = `require('node:net').connect(PORT, '${name}').on('data', (it) => { console.log(String(it)); process.exit(); })
          .on('error', (error) => { console.log(error.code); process.exit(); }).end('GET / HTTP/1.0\\r\\n\\r\\n')`;
          const ask = (port: number) =>
            webGuest.namespace.run(process.execPath, '-e', connect.replace('PORT', String(port)));
          assert.match(await ask(8500), /the host saw you/, name);
          assert.doesNotMatch(await ask(4646), /saw you/, name);
        }
        await webGuest.namespace.run('busybox', 'ping', '-6', '-c1', '-W2', gateway);
      });
    });

    test("the host's cloud metadata over IPv6 is closed to guests", async () => {
      await using outside = await outsideMachine();
      const embedded = ['64:ff9b::a9fe:a9fe', '64:ff9b:1::a9fe:a9fe', '2002:a9fe:a9fe::1'];
      const places = ['fd00:ec2::254', 'fd20:ce::254', 'fd00:c1::a9fe:a9fe', ...embedded];
      for (const address of [...places, 'fd77::1']) {
        await outside.namespace.ip('addr', 'add', `${address}/128`, 'dev', 'out0p', 'nodad');
        await must('ip', 'route', 'add', address, 'via', '2001:db8:2::9');
      }
      await outside.serve(80, 'metadata', '::');
      await withGuests(six, [], async ({ webGuest }) => {
        assert.match(await webGuest.ask('tcp', 'fd77::1', 80), /metadata saw/);
        for (const address of places) {
          assert.match(await askFromHost('tcp', address, 80), /metadata saw/);
          await webGuest.askInVain('tcp', address, 80);
        }
      });
    });

    // Where br_netfilter is loaded, frames between two ports of a bridge pass the rules as well.
    for (const bridged of ['0', '1']) {
      test(`isolated guests do not reach each other over IPv6 (br_netfilter: ${bridged})`, async (t) => {
        const setting = '/proc/sys/net/bridge/bridge-nf-call-ip6tables';
        if (existsSync(setting)) writeFileSync(setting, bridged);
        else if (!requireOrSkip(t, bridged === '0', 'needs br_netfilter')) return;
        for (const isolate of [false, true]) {
          await withGuests({ ...six, isolate }, [80], async ({ web, webGuest, peerGuest }) => {
            const scope = await linkLocalIn(webGuest);
            const reaches = (host: string): Promise<boolean> =>
              peerGuest
                .ask('tcp', host, 80, isolate ? 700 : patient(5000))
                .then((it) => it.includes('saw'));
            const pings = async (): Promise<boolean> =>
              (await peerGuest.namespace.try('busybox', 'ping', '-6', '-c2', '-W2', scope)).code ===
              0;
            assert.equal(await reaches(ip6Of(web)), !isolate);
            assert.equal(await pings(), !isolate);
            // By way of the host.
            await peerGuest.namespace.ip('route', 'add', `${ip6Of(web)}/128`, 'via', gateway);
            assert.equal(await reaches(ip6Of(web)), !isolate);
            assert.match(await askFromHost('tcp', ip6Of(web), 80), /guest saw/);
          });
        }
      });
    }

    test('without NAT guests have their own address outside, and are reached at published ports', async () => {
      await using outside = await outsideMachine();
      await outside.serve(7000, 'outside', '::');
      await outside.namespace.ip('route', 'add', 'fd12:3456:789a::/64', 'via', '2001:db8:2::1');
      for (const nat of [true, false]) {
        await withGuests({ ...six, nat }, [80, 81], async ({ web, webGuest }) => {
          const seen = nat ? '2001:db8:2::1' : ip6Of(web);
          assert.equal(await webGuest.ask('tcp', '2001:db8:2::9', 7000), `outside saw ${seen}`);
          const at = await outside.ask('tcp', ip6Of(web), 80, nat ? 700 : patient(5000));
          assert.equal(at.includes('saw'), !nat);
          await outside.askInVain('tcp', ip6Of(web), 81);
        });
      }
    });

    test('V-117: what a guest makes the kernel track over IPv6 is bounded', async () => {
      await must('ip', 'link', 'add', 'out1', 'type', 'veth', 'peer', 'name', 'out3');
      await must('ip', 'addr', 'add', '2001:db8:5::1/64', 'dev', 'out1', 'nodad');
      for (const link of ['out1', 'out3']) await must('ip', 'link', 'set', link, 'up');
      const max = 1000;
      await using host = await Host.open([{ ...six, hostAccess: 'open' }], { maxConnections: max });
      const [web, other] = [await host.attach('web'), await host.attach('other')];
      const pinger = await host.attach('pinger');
      const bridge = await macOf('virbr0');
      const shoot = (from: TestNic, to: string, port: number): void => {
        const ends = { mac: [from.mac, bridge], ip: [ip6Of(from), to] } as const;
        send(from.tapFd, frame6(ends, udp([port, 9])));
        received(from.tapFd);
      };
      for (let port = 1024; port < 1024 + 3 * max; port++) shoot(web, gateway, port);
      const open = tracked(ip6Of(web));
      assert.ok(open > max / 2 && open <= max, `${open} connections of one guest`);
      // From its other addresses: pings to the host's own of the link, each with another number, and over IPv4.
      const linkLocal = (mac: string): string => formatIpv6(linkLocalOf(mac));
      const ping = (from: TestNic, times: number): number => {
        const ends = {
          mac: [from.mac, bridge],
          ip: [linkLocal(from.mac), linkLocal(bridge)],
        } as const;
        for (let id = 0; id < times; id++) {
          send(from.tapFd, frame6(ends, icmpMessage(128, Buffer.of(id >> 8, id & 0xff, 0, 0))));
          received(from.tapFd);
        }
        return tracked(ends.ip[0]);
      };
      const ip = web.address?.ip ?? '';
      for (let port = 1024; port < 1024 + max; port++) {
        const ends = { mac: [web.mac, bridge], ip: [ip, virbr0.address] } as const;
        send(web.tapFd, udpFrame({ ...ends, port: [port, 9] }));
        received(web.tapFd);
      }
      const all = open + ping(web, max) + tracked4(ip);
      // What the host itself sends to these addresses is tracked as well.
      assert.ok(all < 1.1 * max, `${all} connections of one guest from all its addresses`);
      const pinged = ping(pinger, 3 * max);
      assert.ok(pinged > max / 2 && pinged < 1.1 * max, `${pinged} pings of one guest`);
      const found = async (link: string): Promise<readonly string[]> =>
        (await must('ip', '-6', 'neigh', 'show', 'dev', link)).split('\n').filter(Boolean);
      // In its own network the host looks for no neighbour that is not there.
      for (let each = 0x100; each < 0x200; each++) {
        shoot(other, `fd12:3456:789a::${each.toString(16)}`, 9);
      }
      // Whom it answers is among them.
      const guests = [web, other].map((nic) => `${ip6Of(nic)} `);
      const others = (await found('virbr0')).filter(
        (line) => line.startsWith('fd12:') && !guests.some((ip) => line.startsWith(ip)),
      );
      assert.deepEqual(others, []);
      const since = performance.now();
      for (let each = 0; each < 500; each++) {
        shoot(other, `2001:db8:5::1:${each.toString(16)}`, 9);
      }
      const most = 201 + (20 * (performance.now() - since)) / 1000;
      const beyond = (await found('out1')).filter((line) => line.startsWith('2001:db8:5::1:'));
      assert.ok(beyond.length > 0 && beyond.length <= most, `${beyond.length}, not ${most}`);
      for (const { tapFd } of [web, other, pinger]) closeFd(tapFd);
      for (const vm of ['web', 'other', 'pinger']) await host.detach(vm);
      assert.equal(tracked(ip6Of(web)), 0, 'its connections are forgotten with it');
      await must('ip', 'link', 'del', 'out1');
    });

    test('ip6: a fixed address of the network, which nothing else has', async () => {
      await using host = await Host.open([six]);
      const wanted = 'fd12:3456:789a::50';
      const web = await host.attach('web', { ip6: wanted });
      assert.equal(ip6Of(web), wanted);
      const refused: Readonly<Record<string, RegExp>> = {
        [wanted]: /VM b: ip6 fd12:3456:789a::50 in network virbr0 is taken by VM web/,
        [gateway]: /VM b: ip6 fd12:3456:789a::1 is that of network virbr0 itself/,
        'fd12:3456:789a::': /is no address for a guest in network virbr0 \(fd12:3456:789a::\/64\)/,
        'fd77::5': /is no address for a guest in network virbr0/,
      };
      for (const [ip6, text] of Object.entries(refused)) {
        await assert.rejects(host.attach('b', { ip6 }), text);
        await host.detach('b');
      }
      // 0x50 is 80: the place of this IPv4 address.
      await assert.rejects(
        host.attach('b', { ip: '192.168.122.80' }),
        /VM b: fd12:3456:789a::50, which goes with ip 192.168.122.80, in network virbr0 is taken by VM web/,
      );
      await host.detach('b');
      const other = await host.attach('b', { ip: '192.168.122.80', ip6: 'fd12:3456:789a::51' });
      assert.equal(ip6Of(other), 'fd12:3456:789a::51');
      for (const { tapFd } of [web, other]) closeFd(tapFd);
      for (const vm of ['web', 'b']) await host.detach(vm);
      await using only4 = await Host.open();
      await assert.rejects(only4.attach('b', { ip6: wanted }), /network virbr0 has IPv4 only/);
      await only4.detach('b');
      assert.deepEqual(await leftovers(), nothing);
    });

    test('auto: a private prefix of the network, the same on every host', async () => {
      await using host = await Host.open([{ ...virbr0, address6: 'auto' }]);
      const web = await host.attach('web');
      assert.match(ip6Of(web), /^fd[0-9a-f]{2}:[0-9a-f:]+$/);
      assert.equal(web.address?.six?.gateway, 'fd14:5518:b8eb::1');
      closeFd(web.tapFd);
      await host.detach('web');
    });

    test('a network that had IPv4 only has it until its last VM is gone', async () => {
      await using host = await Host.open();
      const web = await host.attach('web');
      await using later = host.again([six]);
      await later.networks.adopt({ vm: 'web', index: 0, record: web.record }, waiting());
      const next = await later.attach('next');
      assert.equal(next.address?.six, undefined);
      assert.ok(later.lines.some((line) => line.includes('network keeps its address')));
      assert.equal(readSysctl('net/ipv6/conf/virbr0/disable_ipv6'), '1');
      for (const { tapFd } of [web, next]) closeFd(tapFd);
      for (const vm of ['web', 'next']) await host.detach(vm);
      const last = await later.attach('last');
      assert.ok(last.address?.six !== undefined);
      closeFd(last.tapFd);
      await later.detach('last');
      assert.deepEqual(await leftovers(), nothing);
    });

    test('an IPv6 address that was taken from a bridge of running VMs comes back', async () => {
      await using host = await Host.open([six]);
      const web = await host.attach('web');
      const addresses = () => must('ip', '-6', 'addr', 'show', 'dev', 'virbr0');
      for (const damage of [
        ['addr', 'flush', 'dev', 'virbr0', 'scope', 'global'],
        ['link', 'set', 'virbr0', 'down'],
      ]) {
        await must('ip', ...damage);
        assert.doesNotMatch(await addresses(), /fd12:/);
        await host.networks.fingerprint(waiting());
        assert.match(await addresses(), /fd12:3456:789a::1\/64/);
      }
      closeFd(web.tapFd);
      await host.detach('web');
    });

    test('a host with IPv6 disabled has networks with IPv4 only, as before', async () => {
      const setting = '/proc/sys/net/ipv6/conf/all/disable_ipv6';
      writeFileSync(setting, '1');
      try {
        await using host = await Host.open([{ ...virbr0, address6: 'auto' }]);
        const web = await host.attach('web');
        assert.equal(web.address?.six, undefined);
        assert.equal(readSysctl('net/ipv6/conf/virbr0/disable_ipv6'), '1');
        assert.ok(host.lines.some((line) => line.includes('this host has IPv6 disabled')));
        await host.networks.fingerprint(waiting());
        closeFd(web.tapFd);
        await host.detach('web');
        assert.deepEqual(await leftovers(), nothing);
      } finally {
        writeFileSync(setting, '0');
      }
    });

    test('a host that becomes a router keeps the routes that other routers advertise', async () => {
      writeFileSync('/proc/sys/net/ipv6/conf/all/forwarding', '0');
      await must('ip', 'link', 'add', 'out2', 'type', 'bridge');
      writeFileSync('/proc/sys/net/ipv6/conf/out2/accept_ra', '1');
      await using host = await Host.open([six]);
      const web = await host.attach('web');
      assert.equal(readSysctl('net/ipv6/conf/all/forwarding'), '1');
      assert.equal(readSysctl('net/ipv6/conf/out2/accept_ra'), '2');
      assert.equal(readSysctl('net/ipv6/conf/virbr0/accept_ra'), '0');
      closeFd(web.tapFd);
      await host.detach('web');
      await must('ip', 'link', 'del', 'out2');
    });
  },
  280_000,
);

/** The link-local address of a guest's interface. */
async function linkLocalIn(guest: Machine): Promise<string> {
  const text = await guest.namespace.ip('-6', '-o', 'addr', 'show', 'dev', 'eth0', 'scope', 'link');
  return `${/inet6 (\S+)\//.exec(text)?.[1]}%eth0`;
}
