import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closeFd } from '#host';
import { arpQuestion, broadcastMac, isArpAnswer, received, send } from '../net/frames.ts';
import { Allocation, GroupNics } from '../support/allocation.ts';
import { must } from '../support/guest.ts';
import { until } from '../support/live-vm.ts';
import { inOwnNetns } from '../support/netns.ts';
import {
  built,
  Host,
  leftovers,
  nothing,
  type TestNic,
  tapOf,
  virbr0,
  waiting,
} from '../support/networks.ts';

const gateway = '192.168.122.1';
const network6 = { ...virbr0, address6: 'fd12:3456:789a::1/64' };

async function rename(link: string, name: string): Promise<void> {
  await must('ip', 'link', 'set', link, 'down');
  await must('ip', 'link', 'set', link, 'name', name);
  await must('ip', 'link', 'set', name, 'up');
}

/** The events of one look at the host. */
async function look(host: Host): Promise<readonly string[]> {
  const before = host.events.length;
  await host.networks.init(waiting());
  return host.events.slice(before).toSorted();
}

/** Whether the host answers a guest that asks for its address in ARP with that of its own, or another one. */
function answers({ tapFd, mac, address }: TestNic, sender = address?.ip ?? ''): boolean {
  received(tapFd);
  send(tapFd, arpQuestion({ mac: [mac, broadcastMac], ip: [sender, gateway] }));
  return received(tapFd).some(isArpAnswer);
}

/** The kernel of a busy host may pass a frame on a moment later. */
async function areAnswered(nic: TestNic, sender?: string): Promise<void> {
  await until(async () => answers(nic, sender), Boolean, 10_000);
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter'], () => {
  test('V-111: a bridge of the driver that was renamed while VMs run has its name again', async () => {
    await using host = await Host.open([network6]);
    const [web, db] = [await host.attach('web'), await host.attach('db')];
    const show = () => must('ip', '-o', 'addr', 'show', 'virbr0');
    const before = [...(await show()).matchAll(/inet6? \S+/g)].join();
    await using restarted = host.again([network6]);
    const repairs = [
      () => look(host),
      // Before its first look at the host.
      () => restarted.networks.adopt({ vm: 'web', index: 0, record: web.record }, waiting()),
    ];
    for (const repair of repairs) {
      await rename('virbr0', 'other0');
      await repair();
      assert.equal([...(await show()).matchAll(/inet6? \S+/g)].join(), before);
      for (const nic of [web, db]) {
        assert.match(await must('ip', 'link', 'show', nic.tap), /,UP.* master virbr0 /);
        await areAnswered(nic);
      }
      assert.deepEqual(await look(host), []);
    }
    assert.deepEqual(host.events, [
      'web: Bridge virbr0 was called other0 and was put back',
      'db: Bridge virbr0 was called other0 and was put back',
    ]);
    await rename('virbr0', 'other0');
    for (const { tapFd } of [web, db]) closeFd(tapFd);
    for (const vm of ['web', 'db']) await host.detach(vm);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-111: a tap that was renamed while its VM runs has its name, and with it its rules, again', async () => {
    await must('ip', 'link', 'add', 'br0', 'type', 'bridge');
    await using host = await Host.open([virbr0], { bridges: ['br0'] });
    const web = await host.attach('web');
    const other = await host.attach('other', { bridge: 'br0' });
    for (const [vm, { tap }] of Object.entries({ web, other })) {
      await rename(tap, 'eth7');
      // No rule knows it.
      if (vm === 'web') await areAnswered(web, '192.168.122.250');
      assert.deepEqual(await look(host), [
        `${vm}: Tap ${tap} was called eth7, and was put back to its name`,
      ]);
      assert.match(await must('ip', 'link', 'show', tap), /,UP.* master (virbr0|br0) /);
      assert.deepEqual(await look(host), []);
    }
    await areAnswered(web);
    assert.ok(!answers(web, '192.168.122.250'));
    for (const { tapFd } of [web, other]) closeFd(tapFd);
    for (const vm of ['web', 'other']) await host.detach(vm);
    await must('ip', 'link', 'del', 'br0');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-123: a macvtap that was renamed has its name again, and goes with its VM under any', async () => {
    await must('ip', 'link', 'add', 'out0', 'type', 'veth', 'peer', 'name', 'out1');
    await must('ip', 'link', 'set', 'out0', 'up');
    await using host = await Host.open([], { macvtapDevices: ['out0'] });
    const undo = await host.undoLog('web');
    const request = {
      ...({ kind: 'macvtap', device: 'out0', mode: 'bridge', ports: [] } as const),
      ...{ vm: 'web', index: 0, hostname: 'web' },
    };
    const nic = await built(host.networks, request, undo);
    await nic.settle(waiting());
    const { fd, name } = tapOf(nic);
    await rename(name, 'eth7');
    assert.deepEqual(await look(host), [
      `web: Macvtap ${name} was called eth7, and was put back to its name`,
    ]);
    assert.match(await must('ip', 'link', 'show', name), /,UP/);
    await rename(name, 'eth7');
    closeFd(fd);
    assert.deepEqual((await undo.rollback(waiting())).failed, []);
    await undo[Symbol.asyncDispose]();
    await must('ip', 'link', 'del', 'out0');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-111: a tap that was deleted while its VM runs is an event, once, and no reason to fail', async () => {
    await must('ip', 'link', 'add', 'br0', 'type', 'bridge');
    await using allocation = await Allocation.isolated();
    await using plugin = await GroupNics.open();
    await using host = await Host.open([virbr0], { bridges: ['br0'] });
    const web = await host.attach('web');
    const other = await host.attach('other', { bridge: 'br0' });
    const inGroup = await plugin.attach({ vm: 'in-group', netns: allocation.path });
    for (const { tap } of [web, other]) await must('ip', 'link', 'del', tap);
    await allocation.namespace.ip('link', 'del', inGroup.nic.tap);
    const gone = (vm: string, tap: string) => `${vm}: Tap ${tap} is gone: restart the task`;
    // A tap goes with QEMU, too.
    assert.deepEqual(await look(host), []);
    assert.deepEqual(await look(host), [gone('other', other.tap), gone('web', web.tap)]);
    assert.deepEqual(await look(host), []);
    for (let times = 0; times < 3; times += 1) await plugin.groups.restore(waiting());
    assert.deepEqual(plugin.events, [gone('in-group', inGroup.nic.tap)]);
    for (const { tapFd } of [web, other, inGroup]) closeFd(tapFd);
    for (const vm of ['web', 'other']) await host.detach(vm);
    await plugin.detach('in-group');
    await must('ip', 'link', 'del', 'br0');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-125: a tap that was renamed in the network of a group has its name and rules again', async () => {
    await using allocation = await Allocation.isolated();
    await using plugin = await GroupNics.open();
    const { nic, tapFd } = await plugin.attach({ vm: 'web', netns: allocation.path });
    const { namespace } = allocation;
    await namespace.ip('link', 'set', nic.tap, 'down');
    await namespace.ip('link', 'set', nic.tap, 'name', 'eth7', 'up');
    await namespace.run('nft', 'flush', 'ruleset');
    await plugin.groups.restore(waiting());
    assert.deepEqual(plugin.events, [
      `web: Tap ${nic.tap} was called eth7, and was put back to its name`,
      'web: Firewall rules in the network of the group were gone and were put back',
    ]);
    assert.match(await namespace.ip('link', 'show', nic.tap), /,UP/);
    closeFd(tapFd);
    await plugin.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });
});
