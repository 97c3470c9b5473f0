import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closeFd } from '#host';
import type { NetUndo } from '#net';
import { Machine, must } from '../support/guest.ts';
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

const tiny = { ...virbr0, address: '10.7.0.1', prefix: 29 };
const ipOf = (nic: TestNic): string => nic.address?.ip ?? '';

/** The address that the VM called web would get on an empty network. */
async function firstChoice(host: Host): Promise<string> {
  const nic = await host.attach('web');
  closeFd(nic.tapFd);
  await host.detach('web');
  return ipOf(nic);
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat', 'busybox'], () => {
  test('V-120: two agents on one bridge give no address twice, and both know when it is full', async () => {
    await using one = await Host.open([tiny]);
    await using two = await Host.open([tiny]);
    const vms = [
      [one, 'a'],
      [two, 'b'],
      [one, 'c'],
      [two, 'd'],
      [two, 'e'],
    ] as const;
    const nics: TestNic[] = [];
    for (const [host, vm] of vms) nics.push(await host.attach(vm));
    assert.equal(new Set(nics.map(ipOf)).size, 5);
    await assert.rejects(one.attach('f'), /no free address/);
    await assert.rejects(two.attach('f'), /no free address/);
    for (const { tapFd } of nics) closeFd(tapFd);
    for (const [host, vm] of vms) await host.detach(vm);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-120: of two agents that choose an address in the same moment one gives way', async () => {
    await using host = await Host.open();
    await using undo = await host.undoLog('web');
    const perform = async <T>(step: NetUndo, action: () => T | Promise<T>): Promise<T> => {
      if (step.kind === 'net-claim') {
        await must('ip', 'link', 'add', 'out1', 'type', 'veth', 'peer', 'name', 'out2');
        await must('ip', 'link', 'set', 'out1', 'master', 'virbr0');
        await must('ip', 'link', 'set', 'out1', 'alias', `nomad-driver-qmp other/0 ${step.ip}`);
      }
      return undo.perform(step, action);
    };
    const request = {
      kind: 'bridge',
      vm: 'web',
      index: 0,
      bridge: 'virbr0',
      ports: [],
      hostname: 'web',
    } as const;
    const nic = await built(host.networks, request, { perform });
    await assert.rejects(nic.settle(waiting()), {
      code: 'host',
      recoverable: true,
      message:
        /address 192\.168\.122\.\d+ on virbr0 was taken .* by another agent, for its tap out1/,
    });
    closeFd(tapOf(nic).fd);
    await must('ip', 'link', 'del', 'out1');
  });

  test('V-120: an address of the host itself is given to no VM, on a bridge of ours either', async () => {
    await using host = await Host.open();
    const ip = await firstChoice(host);
    await must('ip', 'addr', 'add', `${ip}/32`, 'dev', 'lo');
    assert.notEqual(await firstChoice(host), ip);
    await must('ip', 'addr', 'del', `${ip}/32`, 'dev', 'lo');
    const other = await host.attach('other');
    await must('ip', 'addr', 'add', `${ip}/24`, 'dev', 'virbr0');
    assert.notEqual(await firstChoice(host), ip);
    closeFd(other.tapFd);
    await host.detach('other');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-120: an address that another host on a bridge of ours answers for is avoided', async () => {
    await using host = await Host.open();
    const ip = await firstChoice(host);
    const other = await host.attach('other');
    await must('ip', 'neigh', 'add', ip, 'lladdr', '02:00:00:00:00:07', 'dev', 'virbr0');
    assert.notEqual(await firstChoice(host), ip);
    closeFd(other.tapFd);
    await host.detach('other');
  });

  test('V-121 V-122: a VM gets its address again, and others may, after it has been in use', async () => {
    await using host = await Host.open([tiny]);
    const stays = await host.attach('stays');
    const seen: string[] = [];
    for (let round = 0; round < 6; round++) {
      const nic = await host.attach('web');
      await using guest = await Machine.guest(nic);
      await guest.configure(nic.address);
      await guest.namespace.run('busybox', 'ping', '-c1', '-W2', '10.7.0.1');
      assert.match(await must('ip', 'neigh', 'show', ipOf(nic)), new RegExp(nic.mac));
      await guest.unplug();
      await host.detach('web');
      seen.push(ipOf(nic));
    }
    assert.equal(new Set(seen).size, 1, seen.join());
    for (const vm of ['a', 'b', 'c', 'd']) closeFd((await host.attach(vm)).tapFd);
    for (const vm of ['a', 'b', 'c', 'd']) await host.detach(vm);
    closeFd(stays.tapFd);
    await host.detach('stays');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-109: a tap leaves a foreign bridge its own MAC address', async () => {
    await using host = await Host.open([virbr0], { bridges: ['br0'] });
    await must('ip', 'link', 'add', 'br0', 'type', 'bridge');
    await must('ip', 'link', 'add', 'out1', 'type', 'veth', 'peer', 'name', 'out2');
    await must('ip', 'link', 'set', 'out1', 'address', 'f2:00:00:00:00:01');
    await must('ip', 'link', 'set', 'out1', 'master', 'br0');
    const nic = await host.attach('web', { bridge: 'br0' });
    assert.match(await must('ip', 'link', 'show', 'br0'), /ether f2:00:00:00:00:01/);
    closeFd(nic.tapFd);
    await host.detach('web');
    await must('ip', 'link', 'del', 'br0');
    await must('ip', 'link', 'del', 'out1');
  });
});
