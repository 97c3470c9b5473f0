import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { closeFd, openTap } from '#host';
import { must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import {
  Host,
  leftovers,
  nothing,
  rules,
  type TestNic,
  virbr0,
  waiting,
} from '../support/networks.ts';

const web = { label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 };

const knownAs = (vm: string, { record }: TestNic) => ({ vm, index: 0, record });

inOwnNetns(import.meta.url, ['ip', 'nft'], () => {
  test('D25 V-111: flushed rules come back while VMs run, at the next look at the host', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    const before = await rules();
    const told = () => host.lines.filter((line) => /rules of the VMs were gone/.test(line)).length;
    await host.networks.fingerprint(waiting());
    assert.equal(told(), 0);
    for (const what of [
      ['flush', 'ruleset'],
      ['delete', 'table', ...tableOf(before, /^table (bridge) (\S+)/m)],
      ['delete', 'table', ...tableOf(before, /^table (inet) (\S+_tracked)/m)],
    ]) {
      await must('nft', ...what);
      await host.networks.fingerprint(waiting());
      assert.equal(await rules(), before);
    }
    assert.equal(told(), 3);
    closeFd(nic.tapFd);
    await host.detach('web');
    await host.networks.fingerprint(waiting());
    assert.equal(told(), 3);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-111: a bridge that was deleted while VMs run comes back with their taps in it', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    await must('ip', 'link', 'del', 'virbr0');
    await host.networks.init(waiting());
    assert.match(await must('ip', 'link', 'show', nic.tap), /master virbr0/);
    assert.match(await must('ip', 'addr', 'show', 'virbr0'), /inet 192\.168\.122\.1\/24/);
    closeFd(nic.tapFd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('what can not be put back is the error of init, and fingerprint only logs it', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    await using broken = host.again([virbr0], { nft: '/bin/false' });
    await assert.rejects(broken.networks.init(waiting()), /nft refused to list tables/);
    const attributes = await broken.networks.fingerprint(waiting());
    assert.equal(attributes['network.virbr0.state'], 'active');
    assert.match(broken.lines.join('\n'), /network not ready/);
    closeFd(nic.tapFd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('looking at a host without VMs makes nothing on it, and needs no nft', async () => {
    await using host = await Host.open([virbr0], { nft: '/nowhere/nft' });
    assert.equal((await host.networks.fingerprint(waiting()))['network.virbr0.state'], 'active');
    assert.deepEqual(host.lines, []);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('D25: with another address in the configuration VMs keep their network, rules first', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    const before = await rules();
    await must('nft', 'flush', 'ruleset');
    await using changed = host.again([{ ...virbr0, address: '10.9.0.1' }]);
    await changed.networks.adopt(knownAs('web', nic), waiting());
    assert.equal(await rules(), before);
    const second = await changed.attach('second');
    assert.match(second.address?.ip ?? '', /^192\.168\.122\./);
    const told = changed.lines.filter((line) => /keeps its address/.test(line));
    assert.deepEqual(told, [
      'network keeps its address until its last VM is gone {"bridge":"virbr0","has":"192.168.122.1/24","gets":"10.9.0.1/24"}',
    ]);
    for (const [vm, { tapFd }] of [
      ['web', nic],
      ['second', second],
    ] as const) {
      closeFd(tapFd);
      await changed.detach(vm);
    }
    const third = await changed.attach('third');
    assert.match(third.address?.ip ?? '', /^10\.9\.0\./);
    closeFd(third.tapFd);
    await changed.detach('third');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('D25: a tap with a virtio header, as an earlier version made them, is taken up as it is', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    closeFd(nic.tapFd);
    const { fd } = openTap(nic.tap, { offload: true });
    await using restarted = host.again();
    await restarted.networks.adopt(knownAs('web', nic), waiting());
    const tap = await must('ip', '-d', 'link', 'show', nic.tap);
    assert.match(tap, /master virbr0 /);
    assert.match(tap, /vnet_hdr on/);
    closeFd(fd);
    await restarted.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('D25: rules are back although the bridge is of no use any more', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    const before = await rules();
    await must('nft', 'flush', 'ruleset');
    await must('ip', 'addr', 'add', '10.1.1.1/24', 'dev', 'virbr0');
    await must('ip', 'addr', 'del', '192.168.122.1/24', 'dev', 'virbr0');
    await using restarted = host.again();
    const adopted = restarted.networks.adopt(knownAs('web', nic), waiting());
    await assert.rejects(adopted, /bridge virbr0 exists with 10\.1\.1\.1\/24/);
    assert.equal(await rules(), before);
    closeFd(nic.tapFd);
    await restarted.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-114: a tap that is put back may talk to its own published port again', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    await must('ip', 'link', 'set', nic.tap, 'nomaster');
    await host.networks.adopt(knownAs('web', nic), waiting());
    const port = await must('ip', '-d', 'link', 'show', nic.tap);
    assert.match(port, /master virbr0/);
    assert.match(port, /hairpin on/);
    closeFd(nic.tapFd);
    await host.detach('web');
  });

  test('V-117 D20: an undo that died after it had forgotten the network still takes the rules away', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    closeFd(nic.tapFd);
    await must('ip', 'link', 'del', 'virbr0');
    rmSync(join(host.dir, 'networks', 'virbr0'), { recursive: true });
    await host.networks.vmTerminatedTeardown({ kind: 'net-bridge', bridge: 'virbr0' }, waiting());
    assert.deepEqual(await leftovers(), nothing);
  });
});

function tableOf(ruleset: string, line: RegExp): readonly string[] {
  const [, family = '', name = ''] = line.exec(ruleset) ?? [];
  return [family, name];
}
