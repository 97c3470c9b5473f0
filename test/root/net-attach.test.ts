import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { closeFd } from '#host';
import { NetError } from '../../src/net/model/error.ts';
import { askFromHost, Machine, must } from '../support/guest.ts';
import { command, inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, virbr0, waiting } from '../support/networks.ts';

const web = { label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 };
const sysctl = (name: string): string => readFileSync(`/proc/sys/net/${name}`, 'utf8').trim();

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat'], () => {
  test('V-110: the first VM makes the managed network, the last one leaves nothing', async () => {
    await using host = await Host.open();
    assert.deepEqual(await leftovers(), nothing);
    assert.equal(sysctl('ipv4/ip_forward'), '0');
    const nic = await host.attach('web');
    assert.match(nic.tap, /^qmp[0-9a-f]{8}$/);
    assert.match(nic.mac, /^52(:[0-9a-f]{2}){5}$/);
    const found = await leftovers();
    assert.deepEqual(found.links.toSorted(), [nic.tap, 'virbr0'].toSorted());
    const tables = found.tables.map((table) => table.replace(/_[0-9a-f]{8}/, ''));
    assert.deepEqual(tables.toSorted(), [
      'table bridge nomad_driver_qmp',
      'table inet nomad_driver_qmp',
      'table inet nomad_driver_qmp_tracked',
    ]);
    const tap = (await command('ip', '-d', 'link', 'show', nic.tap)).output;
    assert.match(tap, /master virbr0/);
    assert.match(tap, /alias nomad-driver-qmp web\/0/);
    const bridge = (await command('ip', '-d', 'addr', 'show', 'virbr0')).output;
    assert.match(bridge, /alias nomad-driver-qmp\n/);
    assert.match(bridge, /forward_delay 0 .*stp_state 0/);
    assert.match(bridge, /inet 192\.168\.122\.1\/24 brd 192\.168\.122\.255/);
    assert.doesNotMatch(bridge, /inet6/);
    assert.equal(sysctl('ipv4/ip_forward'), '1');
    assert.equal(sysctl('ipv4/conf/virbr0/route_localnet'), '1');
    assert.equal(sysctl('ipv6/conf/virbr0/accept_ra'), '0');
    assert.equal(sysctl(`ipv6/conf/${nic.tap}/disable_ipv6`), '1');
    assert.equal(sysctl('ipv4/conf/all/route_localnet'), '0');
    closeFd(nic.tapFd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
    assert.deepEqual(readdirSync(join(host.dir, 'networks')), ['lock']);
  });

  test('V-120 V-121 V-122: the address is there at once and the same each time', async () => {
    await using host = await Host.open();
    const seen = new Set<string>();
    for (let round = 0; round < 3; round++) {
      const nic = await host.attach('web');
      assert.equal(nic.address?.gateway, '192.168.122.1');
      assert.deepEqual(nic.address.nameservers, ['192.168.122.1', '192.0.2.53']);
      assert.deepEqual(nic.address.searches, ['virbr0.internal']);
      assert.equal(nic.mtu, 1500);
      seen.add(`${nic.mac} ${nic.address.ip} ${nic.tap}`);
      closeFd(nic.tapFd);
      await host.detach('web');
    }
    assert.equal(seen.size, 1);
  });

  test('V-144: two VMs of one hostname, and two NICs of one VM, are distinguished', async () => {
    await using host = await Host.open();
    const hostname = 'same';
    const nics = [
      await host.attach('a', { hostname }),
      await host.attach('b', { hostname }),
      await host.attach('b', { hostname, index: 1 }),
    ];
    for (const of of [
      (nic: (typeof nics)[number]) => nic.mac,
      (nic: (typeof nics)[number]) => nic.tap,
      (nic: (typeof nics)[number]) => nic.address?.ip,
    ]) {
      assert.equal(new Set(nics.map(of)).size, 3);
    }
    for (const { tapFd } of nics) closeFd(tapFd);
    await host.detach('a');
    await host.detach('b');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a taken port is refused with the name of the VM that has it, and all is undone', async () => {
    await using host = await Host.open();
    const first = await host.attach('first', { ports: [web] });
    const before = await command('nft', 'list', 'ruleset');
    const same = { ...web, hostIp: '192.0.2.1' };
    await assert.rejects(host.attach('second', { ports: [same] }), (error) => {
      assert.ok(error instanceof NetError);
      assert.equal(error.code, 'host');
      assert.match(error.message, /port web on 192\.0\.2\.1:8080 is already mapped to VM first/);
      return true;
    });
    assert.equal((await command('nft', 'list', 'ruleset')).output, before.output);
    closeFd(first.tapFd);
    await host.detach('first');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('the port of a VM that is gone but not yet undone is free', async () => {
    await using host = await Host.open();
    const gone = await host.attach('gone', { ports: [web] });
    closeFd(gone.tapFd);
    const next = await host.attach('next', { ports: [web] });
    const mapping = new RegExp(`tcp \\. 8080 : ${next.address?.ip} \\. 80`);
    assert.match((await command('nft', 'list', 'ruleset')).output, mapping);
    await host.detach('gone');
    assert.match((await command('nft', 'list', 'ruleset')).output, mapping);
    closeFd(next.tapFd);
    await host.detach('next');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-117: what fails half-way is undone: nft that refuses', async () => {
    await using host = await Host.open();
    const impossible = { ...web, guestPort: 123456 };
    await assert.rejects(host.attach('web', { ports: [impossible] }), {
      code: 'host',
      message: /nft refused/,
    });
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a full network is an error that names it', async () => {
    const tiny = { bridge: 'virbr7', address: '10.7.0.1', prefix: 29 };
    await using host = await Host.open([tiny]);
    const vms = ['one', 'two', 'three', 'four', 'five'];
    for (const vm of vms) closeFd((await host.attach(vm, { bridge: 'virbr7' })).tapFd);
    const refused = host.attach('six', { bridge: 'virbr7' });
    await assert.rejects(refused, { recoverable: true, message: /no free address/ });
    for (const vm of vms) await host.detach(vm);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-109: a bridge that was there is used as it is and stays', async () => {
    await using host = await Host.open();
    await must('ip', 'link', 'add', 'virbr0', 'type', 'bridge');
    await must('ip', 'addr', 'add', '192.168.122.1/24', 'dev', 'virbr0');
    await must('ip', 'link', 'set', 'virbr0', 'up');
    const probe = await host.attach('web');
    closeFd(probe.tapFd);
    await host.detach('web');
    const { ip = '' } = probe.address ?? {};
    await must('ip', 'neigh', 'add', ip, 'lladdr', '52:54:00:00:00:99', 'dev', 'virbr0');
    const nic = await host.attach('web');
    assert.notEqual(nic.address?.ip, ip, 'an address that somebody else uses is avoided');
    const loopback = { ...web, hostIp: '127.0.0.1' };
    await assert.rejects(host.attach('other', { ports: [loopback] }), /route_localnet/);
    closeFd(nic.tapFd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), { links: ['virbr0'], tables: [] });
    assert.equal(sysctl('ipv4/conf/virbr0/route_localnet'), '0');
    await must('ip', 'link', 'del', 'virbr0');
  });

  test('a bridge of another address is refused by name', async () => {
    await using host = await Host.open();
    await must('ip', 'link', 'add', 'virbr0', 'type', 'bridge');
    await must('ip', 'addr', 'add', '10.1.1.1/24', 'dev', 'virbr0');
    await assert.rejects(host.attach('web'), /bridge virbr0 exists with 10\.1\.1\.1\/24/);
    await must('ip', 'link', 'del', 'virbr0');
    await must('ip', 'link', 'add', 'virbr0', 'type', 'veth', 'peer', 'name', 'out1');
    await assert.rejects(host.attach('web'), /virbr0 exists and is not a bridge \(veth\)/);
    await must('ip', 'link', 'del', 'virbr0');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-108 V-109: a Linux bridge that is allowed takes a tap; ports there are refused with a way out', async () => {
    await using host = await Host.open([virbr0], { bridges: ['br0', 'br9', 'lo'] });
    await must('ip', 'link', 'add', 'br0', 'type', 'bridge');
    await must('ip', 'link', 'add', 'out8', 'type', 'bridge');
    const nic = await host.attach('web', { bridge: 'br0' });
    assert.equal(nic.address, undefined);
    assert.match((await command('ip', 'link', 'show', nic.tap)).output, /master br0/);
    const fixed = { prefix: 24, gateway: '192.0.2.1', nameservers: ['192.0.2.53'] };
    const own = { bridge: 'br0', ip: '192.0.2.20', fixed };
    const still = await host.attach('still', own);
    assert.deepEqual(still.address, { ip: own.ip, ...fixed, searches: [] });
    assert.equal(still.ip, own.ip, 'it is reported as the address of the VM');
    await assert.rejects(host.attach('other', own), {
      code: 'host',
      message: /ip 192\.0\.2\.20 on bridge br0 is taken by VM still$/,
    });
    await assert.rejects(host.attach('other', { bridge: 'br0', ip: own.ip }), {
      code: 'job',
      message: /bridge br0 is not a managed network: add prefix/,
    });
    await assert.rejects(host.attach('other', { ip: '192.168.122.9', fixed }), {
      code: 'job',
      message: /virbr0 is a managed network, which has its own prefix/,
    });
    closeFd(still.tapFd);
    await host.detach('still');
    const refused = host.attach('other', { bridge: 'br0', ports: [web] });
    await assert.rejects(refused, {
      recoverable: false,
      message: /ports \(web\) can't be mapped on bridge br0/,
    });
    await assert.rejects(host.attach('other', { bridge: 'br9' }), {
      recoverable: true,
      message: /bridge br9 does not exist/,
    });
    await assert.rejects(host.attach('other', { bridge: 'lo' }), /lo is not a Linux bridge/);
    assert.deepEqual(await host.networks.fingerprint(waiting()), {
      'network.virbr0.state': 'active',
      'network.virbr0.bridge_name': 'virbr0',
      'network.default.state': 'active',
      'network.default.bridge_name': 'virbr0',
      'network.br0.state': 'active',
      'network.br0.bridge_name': 'br0',
    });
    closeFd(nic.tapFd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), { links: ['br0'], tables: [] });
    for (const bridge of ['br0', 'out8']) await must('ip', 'link', 'del', bridge);
  });

  test("V-109: a bridge of others' that is not allowed is refused with the key that allows it", async () => {
    const names = ['docker0', 'cni-podman0', 'nomad', 'br0'];
    for (const name of names) await must('ip', 'link', 'add', name, 'type', 'bridge');
    for (const [bridges, allowed] of [
      [[], 'none'],
      [['br1', 'br2'], 'br1, br2'],
    ] as const) {
      await using host = await Host.open([virbr0], { bridges });
      for (const bridge of names) {
        await assert.rejects(host.attach('web', { bridge }), {
          code: 'host',
          recoverable: true,
          message:
            `VM web: bridge ${bridge} is not a managed network (there are: virbr0), and not among the other bridges ` +
            `that this agent allows (${allowed}): an operator allows it with bridges = ["${bridge}"], or makes it a ` +
            `network of the driver's with managed_network { bridge = "${bridge}" … }, in the plugin's configuration`,
        });
      }
      if (bridges.length > 0) {
        await assert.rejects(host.attach('web', { bridge: 'br2' }), {
          code: 'host',
          recoverable: true,
          message:
            'VM web: bridge br2 does not exist on this host: make it, or use a managed network (there are: virbr0), ' +
            'of which the driver makes the bridge',
        });
      }
      const attributes = await host.networks.fingerprint(waiting());
      const found = Object.keys(attributes).filter((key) => key.endsWith('.state'));
      assert.deepEqual(found, ['network.virbr0.state', 'network.default.state']);
    }
    assert.deepEqual(await leftovers(), { links: names, tables: [] });
    for (const name of names) await must('ip', 'link', 'del', name);
  });

  test('V-120: the address that a guest has from a network of others is an event, once the host knows it', async () => {
    await must('ip', 'link', 'add', 'br0', 'type', 'bridge');
    await must('ip', 'addr', 'add', '192.0.2.1/24', 'dev', 'br0');
    await must('ip', 'link', 'set', 'br0', 'up');
    await using host = await Host.open([virbr0], { bridges: ['br0'] });
    const web = await host.attach('web', { bridge: 'br0' });
    const own = { ip: '192.0.2.30', fixed: { prefix: 24, nameservers: [] } };
    const db = await host.attach('db', { bridge: 'br0', ...own });
    await using guest = await Machine.guest({ ...web, offload: true });
    await using other = await Machine.guest({ ...db, offload: true });
    await guest.configure({ ip: '192.0.2.20', prefix: 24 });
    await other.configure(db.address);
    await host.networks.init(waiting());
    assert.deepEqual(host.events, []);
    for (const machine of [guest, other]) await machine.serve(80, 'guest');
    for (const address of ['192.0.2.20', '192.0.2.30']) await askFromHost('tcp', address, 80);
    for (const _look of [1, 2]) await host.networks.init(waiting());
    assert.deepEqual(host.events, [
      'web: Guest has the address 192.0.2.20 on br0, by the neighbour table of the host',
    ]);
    for (const machine of [guest, other]) await machine.unplug();
    for (const vm of ['web', 'db']) await host.detach(vm);
    await must('ip', 'link', 'del', 'br0');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('D25: a VM on a bridge that is allowed no longer is taken up again all the same', async () => {
    await using host = await Host.open([virbr0], { bridges: ['br0'] });
    await must('ip', 'link', 'add', 'br0', 'type', 'bridge');
    const nic = await host.attach('web', { bridge: 'br0' });
    await using restarted = host.again([virbr0], { bridges: [] });
    await must('ip', 'link', 'set', nic.tap, 'nomaster');
    const known = { vm: 'web', index: 0, record: nic.record };
    await restarted.networks.adopt(known, waiting());
    assert.match(await must('ip', 'link', 'show', nic.tap), /master br0/);
    await assert.rejects(restarted.attach('other', { bridge: 'br0' }), /is not a managed network/);
    closeFd(nic.tapFd);
    await restarted.detach('web');
    await must('ip', 'link', 'del', 'br0');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('the tap goes with the process that holds it', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    await using guest = await Machine.guest(nic);
    assert.ok((await leftovers()).links.includes(nic.tap));
    await guest.unplug();
    assert.deepEqual((await leftovers()).links, ['virbr0']);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-118: undoing twice, and undoing what was removed by hand, are fine', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    const steps = (await host.undoLog('web')).steps;
    closeFd(nic.tapFd);
    await must('nft', 'flush', 'ruleset');
    await must('ip', 'link', 'del', 'virbr0');
    for (const step of [...steps, ...steps.toReversed(), ...steps]) {
      await host.networks.vmTerminatedTeardown(step, waiting());
    }
    assert.deepEqual(await leftovers(), nothing);
  });

  test('an old undo step leaves the later holder of its address alone', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    const { ip = '' } = nic.address ?? {};
    const step = { kind: 'net-claim', bridge: 'virbr0', ip, vm: 'gone', index: 0 } as const;
    await host.networks.vmTerminatedTeardown(step, waiting());
    await host.networks.vmTerminatedTeardown(
      { kind: 'net-tap', tap: nic.tap, vm: 'gone', index: 0 },
      waiting(),
    );
    assert.match((await command('nft', 'list', 'ruleset')).output, new RegExp(`8080 : ${ip}`));
    assert.ok((await leftovers()).links.includes(nic.tap));
    closeFd(nic.tapFd);
    await host.detach('web');
  });

  test('two agents on a host share a bridge and leave each other alone', async () => {
    await using one = await Host.open();
    await using two = await Host.open();
    const first = await one.attach('first', { ports: [web] });
    const second = await two.attach('second', { ports: [{ ...web, hostPort: 8081 }] });
    closeFd(first.tapFd);
    await one.detach('first');
    const rules = (await command('nft', 'list', 'ruleset')).output;
    assert.match(rules, /8081/);
    assert.doesNotMatch(rules, /8080/);
    assert.ok((await leftovers()).links.includes('virbr0'));
    closeFd(second.tapFd);
    await two.detach('second');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('D25: rules that were flushed come back for every VM at the next attach', async () => {
    await using host = await Host.open();
    const first = await host.attach('first', { ports: [web] });
    const mapping = new RegExp(`tcp \\. 8080 : ${first.address?.ip} \\. 80`);
    assert.match((await command('nft', 'list', 'ruleset')).output, mapping);
    await must('nft', 'flush', 'ruleset');
    const second = await host.attach('second');
    assert.match((await command('nft', 'list', 'ruleset')).output, mapping);
    for (const { tapFd } of [first, second]) closeFd(tapFd);
    await host.detach('first');
    await host.detach('second');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('adopting puts back the rules, the bridge and the tap in it', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    const known = { vm: 'web', index: 0, record: nic.record };
    const rules = (await command('nft', 'list', 'ruleset')).output;
    await must('nft', 'flush', 'ruleset');
    await must('ip', 'link', 'del', 'virbr0');
    await using restarted = host.again();
    await restarted.networks.adopt(known, waiting());
    assert.equal((await command('nft', 'list', 'ruleset')).output, rules);
    assert.match((await command('ip', 'link', 'show', nic.tap)).output, /master virbr0/);
    await must('ip', 'link', 'set', nic.tap, 'nomaster');
    await restarted.networks.adopt(known, waiting());
    assert.match((await command('ip', 'link', 'show', nic.tap)).output, /master virbr0/);
    closeFd(nic.tapFd);
    await restarted.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a network taken out of the configuration is still adopted and undone', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    await using restarted = host.again([]);
    const known = { vm: 'web', index: 0, record: nic.record };
    await restarted.networks.adopt(known, waiting());
    closeFd(nic.tapFd);
    await restarted.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a network that overlaps one that is still in use is refused by name', async () => {
    const wider = { bridge: 'virbr8', address: '192.168.0.1', prefix: 16 };
    await using host = await Host.open();
    const nic = await host.attach('web');
    await using changed = host.again([wider]);
    const refused = changed.attach('other', { bridge: 'virbr8' });
    await assert.rejects(
      refused,
      /virbr8 .* overlaps virbr0 \(192\.168\.122\.1\/24\), which still has VMs: give its managed_network another/,
    );
    closeFd(nic.tapFd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test("what stands in the way of guests' packets is named in the log", async () => {
    await using host = await Host.open();
    const chain = '{ type filter hook forward priority 0; policy drop; }';
    await must('nft', 'add', 'table', 'ip', 'filter');
    await must('nft', 'add', 'chain', 'ip', 'filter', 'FORWARD', chain);
    const nic = await host.attach('web');
    assert.match(host.lines.join('\n'), /drop packets of guests .*ip filter FORWARD/);
    closeFd(nic.tapFd);
    await host.detach('web');
    await must('nft', 'flush', 'ruleset');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a deadline that has passed is the reason given', async () => {
    await using host = await Host.open();
    const request = {
      kind: 'bridge',
      vm: 'web',
      index: 0,
      bridge: 'virbr0',
      ports: [],
      hostname: 'web',
    } as const;
    const signal = AbortSignal.abort(new Error('too late'));
    const undo = { perform: async <T>(_: unknown, action: () => T | Promise<T>) => action() };
    await assert.rejects(host.networks.vmStartedBuild(request, undo, { signal }), {
      message: 'too late',
    });
    assert.deepEqual(await leftovers(), nothing);
  });
});
