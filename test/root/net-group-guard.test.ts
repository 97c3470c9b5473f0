import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { closeFd, openTap, udpSocket, withNetns } from '#host';
import { parseIpv4 } from '#spec';
import { tapAlias } from '../../src/net/model/names.ts';
import {
  arpQuestion,
  broadcastMac,
  dhcpQuestion,
  portOf,
  received,
  send,
  udpFrame,
} from '../net/frames.ts';
import { Allocation, containerNetwork, GroupNics, guestOf, inside } from '../support/allocation.ts';
import { Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { waiting } from '../support/networks.ts';
import { eventually } from '../support/vm.ts';

const address = '10.88.0.2';
const other = '10.88.0.3';
const metadata = '169.254.169.254';

/** A process of the allocation's that hears datagrams, by the addresses that they come from. */
function listener(allocation: Allocation, port: number) {
  const heard: string[] = [];
  const fd = withNetns(allocation.path, () =>
    udpSocket({ address: '0.0.0.0', port, broadcast: false }),
  );
  const socket = createSocket('udp4').on('message', (_message, from) => heard.push(from.address));
  socket.bind({ fd });
  return { heard, [Symbol.dispose]: () => socket.close() };
}

const tracked = (): readonly string[] =>
  readFileSync('/proc/thread-self/net/nf_conntrack', 'utf8').split('\n');
const links = (): string => readFileSync('/proc/thread-self/net/dev', 'utf8');

/** Namespaces of networks that this process has open, and those that its threads are in. */
function namespacesHere(): readonly string[] {
  const files = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });
  const threads = readdirSync('/proc/self/task').map((tid) =>
    readlinkSync(`/proc/self/task/${tid}/ns/net`),
  );
  return [...new Set([...files.filter((file) => file.startsWith('net:')), ...threads])];
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat', 'mount'], () => {
  test('a guest in a group sends as itself only, and IPv4 only', async () => {
    await containerNetwork({ port: 18_080, to: `${address}:80` });
    await using allocation = await Allocation.open(address);
    await using plugin = await GroupNics.open();
    const home = namespacesHere();
    const { nic, tapFd } = await plugin.attach({ vm: 'web', netns: allocation.path });
    assert.deepEqual(namespacesHere(), home);
    using sibling = listener(allocation, 9000);
    const { namespace } = allocation;
    const link = await namespace.ip('-o', 'link', 'show', nic.tap);
    const tapMac = / link\/ether (\S+)/.exec(link)?.[1] ?? '';
    await namespace.run('sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=0');
    const mac = [nic.mac, tapMac] as const;
    const sound = { mac, ip: [nic.guest, address] as const, port: [9, 9000] as const };
    const tagged = udpFrame(sound);
    const vlan = Buffer.concat([
      tagged.subarray(0, 12),
      Buffer.from('81000000', 'hex'),
      tagged.subarray(12),
    ]);
    for (const frame of [
      udpFrame({ ...sound, ip: [other, address] }),
      udpFrame({ ...sound, ip: ['127.0.0.1', address] }),
      udpFrame({ ...sound, ip: ['0.0.0.0', address] }),
      udpFrame({ ...sound, ip: [nic.guest, '127.0.0.1'] }),
      udpFrame({ ...sound, mac: ['52:00:00:00:00:09', tapMac] }),
      vlan,
    ]) {
      send(tapFd, frame);
    }
    for (const sender of [address, nic.gateway, other, '192.0.0.77']) {
      send(tapFd, arpQuestion({ mac, ip: [sender, nic.gateway] }));
    }
    for (const asked of [address, other]) {
      send(tapFd, arpQuestion({ mac, ip: [nic.guest, asked] }));
    }
    await namespace.run('nft', 'add', 'table', 'inet', 'seen');
    // Frames are handled in their order: what would be heard of the others is heard by then.
    send(tapFd, udpFrame(sound));
    await eventually(() => sibling.heard.length > 0, 'a sound datagram');
    assert.deepEqual(sibling.heard, [nic.guest]);
    const known = (await namespace.ip('neigh', 'show', 'dev', nic.tap)).trim();
    assert.match(known, new RegExp(`^(${nic.guest} [^\\n]*)?$`));
    const answers = received(tapFd).filter((frame) => frame.readUInt16BE(12) === 0x0806);
    assert.deepEqual(
      answers.filter((frame) => frame.readUInt16BE(20) === 2),
      [],
      'only the gateway answers for itself, and nothing asked for it as the guest',
    );
    send(tapFd, arpQuestion({ mac, ip: [nic.guest, nic.gateway] }));
    await eventually(
      () => received(tapFd).some((frame) => frame.readUInt16BE(20) === 2),
      'an answer for the gateway',
    );
    closeFd(tapFd);
    await plugin.detach('web');
  });

  test('link-local addresses behind the host are closed to a guest in a group', async () => {
    await using outside = await Machine.outside({
      link: 'out0',
      hostAddress: '192.0.2.1',
      address: '192.0.2.9',
    });
    await outside.namespace.ip('addr', 'add', `${metadata}/32`, 'dev', 'lo');
    await outside.namespace.ip('route', 'add', 'default', 'via', '192.0.2.1');
    await must('ip', 'route', 'add', `${metadata}/32`, 'via', '192.0.2.9');
    await outside.serve(80, 'metadata');
    await outside.serve(53, 'names', metadata);
    await using allocation = await Allocation.open(address);
    await using plugin = await GroupNics.open();
    const web = await plugin.attach({ vm: 'web', netns: allocation.path, servers: [metadata] });
    await using guest = await guestOf(web);
    assert.match(await allocation.ask('tcp', metadata, 80), /^metadata saw/);
    assert.match(await guest.ask('udp', metadata, 53), /^names saw/);
    await guest.askInVain('tcp', metadata, 80);
    await guest.unplug();
    await plugin.detach('web');
  });

  test('two VMs of a group have addresses and ports of their own and reach each other', async () => {
    await using allocation = await Allocation.open(address);
    await using plugin = await GroupNics.open();
    const netns = allocation.path;
    const [web, db] = await Promise.all([
      plugin.attach({ vm: 'web', netns, ports: [80] }),
      plugin.attach({ vm: 'db', netns, ports: [5432] }),
    ]);
    assert.deepEqual([web.nic.guest, db.nic.guest].toSorted(), ['192.0.0.66', '192.0.0.70']);
    await assert.rejects(
      plugin.attach({ vm: 'third', netns, ports: [443, 80] }),
      /port p80 \(80\) of the group leads to VM web already/,
    );
    await using webGuest = await guestOf(web);
    await using dbGuest = await guestOf(db);
    await webGuest.serve(80, 'web');
    await dbGuest.serve(5432, 'db');
    await dbGuest.serve(5433, 'db');
    assert.match(await webGuest.ask('tcp', web.nic.gateway, 5432), /^db saw/);
    assert.match(await webGuest.ask('udp', address, 5432), /^db saw/);
    assert.match(await dbGuest.ask('tcp', address, 80), /^web saw/);
    await webGuest.askInVain('tcp', db.nic.guest, 5433);
    await webGuest.unplug();
    await plugin.detach('web');
    assert.match(await allocation.ask('tcp', '127.0.0.1', 5432), /^db saw/);
    // Without a VM behind the port the namespace has the connection itself.
    await allocation.askInVain('udp', address, 80);
    const again = await plugin.attach({ vm: 'web-2', netns, ports: [80] });
    assert.equal(again.nic.guest, web.nic.guest);
    const flows = withNetns(netns, tracked);
    const stale = flows.filter(
      (line) => line.includes(`=${again.nic.guest} `) || / dport=80 /.test(line),
    );
    assert.deepEqual(stale, []);
    assert.ok(
      flows.some((line) => line.includes(`=${db.nic.guest} `)),
      'those of the other VM stay',
    );
    closeFd(again.tapFd);
    await dbGuest.unplug();
    for (const vm of ['web-2', 'db']) await plugin.detach(vm);
    assert.equal(await inside(allocation.namespace), 'lo eth0 |');
  });

  test('a build in a group applies no rules; its tap comes up after them, when it is plugged in', async () => {
    await using allocation = await Allocation.open(address);
    await using plugin = await GroupNics.open();
    const { namespace, path } = allocation;
    const { backend, plug } = await plugin.open('web', path);
    assert.ok(backend.kind === 'tap');
    // A repair has nothing to do with it yet.
    await plugin.groups.restore(waiting());
    assert.equal(await namespace.run('nft', 'list', 'ruleset'), '');
    const tap = () => namespace.run('ip', 'link', 'show', backend.name);
    assert.doesNotMatch(await tap(), /[<,]UP[,>]/);
    await plug?.(waiting());
    assert.match(await namespace.run('nft', 'list', 'ruleset'), /table/);
    assert.match(await tap(), /[<,]UP[,>]/);
    for (const fd of backend.fds) closeFd(fd);
    await plugin.detach('web');
    assert.equal(await namespace.run('nft', 'list', 'ruleset'), '');
  });

  test('V-118: rules that were flushed in the namespace are put back, also by the next process', async () => {
    await using allocation = await Allocation.open(address);
    await using container = await Allocation.open(other);
    await using plugin = await GroupNics.open();
    const web = await plugin.attach({ vm: 'web', netns: allocation.path, ports: [80] });
    await using guest = await guestOf(web);
    await guest.serve(80, 'guest');
    const { namespace } = allocation;
    const rules = () => namespace.run('nft', '-s', 'list', 'ruleset');
    const sound = await rules();
    await plugin.groups.restore(waiting());
    assert.equal(await rules(), sound);
    const element = ['inet', web.nic.tap, 'published', '{ tcp . 80 }'];
    await namespace.run('nft', 'delete', 'element', ...element);
    await plugin.groups.restore(waiting());
    assert.deepEqual(sorted(await rules()), sorted(sound));
    await using next = plugin.again();
    for (const repair of [
      () => plugin.groups.restore(waiting()),
      () => next.groups.adopt(web.nic, waiting()),
    ]) {
      await namespace.run('nft', 'flush', 'ruleset');
      await container.askInVain('tcp', address, 80);
      await repair();
      assert.deepEqual(sorted(await rules()), sorted(sound));
      assert.equal(await container.ask('tcp', address, 80), `guest saw ${other}`);
    }
    const { tap } = web.nic;
    await namespace.ip('addr', 'flush', 'dev', tap);
    await plugin.groups.restore(waiting());
    assert.equal(await container.ask('tcp', address, 80), `guest saw ${other}`);
    await namespace.ip('link', 'set', tap, 'down');
    await plugin.groups.restore(waiting());
    assert.match(await namespace.ip('link', 'show', tap), /,UP/);
    const text = `web: Tap ${tap} in the network of the group was down or without its address and was put back`;
    assert.deepEqual(plugin.events.slice(2), [text, text]);
    await guest.unplug();
    await plugin.detach('web');
    const left = await namespace.run('cat', '/proc/net/nf_conntrack');
    assert.ok(!left.includes(web.nic.guest), `connections of the VM that is gone: ${left}`);
  });

  test('the namespace of a group goes when Nomad removes it, with the tap, whatever the VM does', async () => {
    await using allocation = await Allocation.open(address);
    await using plugin = await GroupNics.open();
    const { tapFd } = await plugin.attach({ vm: 'web', netns: allocation.path });
    assert.ok(links().includes(allocation.outerLink));
    await allocation.remove();
    // The kernel removes the cable together with the namespace.
    await eventually(() => !links().includes(allocation.outerLink), 'the end of the namespace');
    // EIO while the kernel is removing it, then EBADFD, for which Node has no name.
    assert.throws(
      () => send(tapFd, Buffer.alloc(60)),
      ({ errno }: NodeJS.ErrnoException) => errno === -5 || errno === -77,
    );
    closeFd(tapFd);
    await plugin.groups.restore(waiting());
    await plugin.detach('web');
  });

  test('DHCP gives a guest in a group its address, name servers and no one else', async () => {
    await using allocation = await Allocation.open(address);
    await using first = await GroupNics.open();
    const { nic, tapFd } = await first.attach({ vm: 'web', netns: allocation.path });
    await first[Symbol.asyncDispose]();
    await using next = first.again();
    await next.groups.adopt(nic, waiting());
    const ask = (mac: string) =>
      send(
        tapFd,
        udpFrame({
          mac: [nic.mac, broadcastMac],
          ip: ['0.0.0.0', '255.255.255.255'],
          port: [68, 67],
          payload: dhcpQuestion({ type: 'discover', mac }),
        }),
      );
    ask('52:00:00:00:00:09');
    ask(nic.mac);
    const offers: Buffer[] = [];
    await eventually(() => {
      offers.push(...received(tapFd).filter((frame) => portOf(frame) === 68));
      return offers.length > 0;
    }, 'an offer');
    assert.equal(offers.length, 1);
    const dhcp = offers[0]?.subarray(42) ?? Buffer.alloc(0);
    assert.equal(dhcp.readUInt32BE(16), parseIpv4(nic.guest));
    assert.ok(dhcp.includes(Buffer.from([6, 4, 192, 0, 2, 53])), 'the name server of the group');
    closeFd(tapFd);
    await next.detach('web');
  });

  test('in a namespace without a network a guest and the other tasks reach each other, and nothing else', async () => {
    await using allocation = await Allocation.isolated();
    await using plugin = await GroupNics.open();
    const web = await plugin.attach({ vm: 'web', netns: allocation.path, ports: [80] });
    assert.equal(web.address, undefined);
    await using guest = await guestOf(web);
    await guest.serve(80, 'guest');
    await allocation.serve(9000, 'sibling', '127.0.0.1');
    assert.match(await allocation.ask('tcp', '127.0.0.1', 80), /^guest saw/);
    assert.match(await guest.ask('tcp', web.nic.gateway, 9000), /^sibling saw/);
    await guest.askInVain('tcp', '192.0.2.1', 80);
    await guest.unplug();
    await plugin.detach('web');
    assert.equal(await inside(allocation.namespace), 'lo |');
  });

  test('what an interrupted build left on the host is removed, and a namespace that is none is refused', async () => {
    await using plugin = await GroupNics.open();
    const { fd, name } = await openTap('qmp00000001');
    await must('ip', 'link', 'set', name, 'alias', tapAlias('web', 0, '192.0.0.66'));
    const gone = '/run/netns/gone';
    const step = { kind: 'net-group', netns: gone, tap: name, vm: 'web', index: 0 } as const;
    await plugin.groups.drop(step, waiting());
    assert.ok(!existsSync(`/proc/sys/net/ipv4/conf/${name}`));
    closeFd(fd);
    for (const netns of [gone, '/proc/self/ns/net', '/etc/hostname']) {
      await assert.rejects(plugin.attach({ vm: 'web', netns }), /is no network namespace/);
    }
  });
});

/** The kernel lists tables in the order in which they were made. */
function sorted(ruleset: string): readonly string[] {
  return ruleset
    .split(/^(?=table )/m)
    .map((table) => table.trim())
    .toSorted();
}
