import assert from 'node:assert/strict';
import { readSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd } from '#host';
import type { NicSpec } from '#spec';
import { nicMac } from '../../src/net/model/names.ts';
import { readSysctl, writeSysctls } from '../../src/net/model/sysctl.ts';
import { nicFigures } from '../../src/vm/figures/links.ts';
import { arpQuestion, broadcastMac } from '../net/frames.ts';
import { Machine, must } from '../support/guest.ts';
import { command, inOwnNetns } from '../support/netns.ts';
import { built, Host, leftovers, nothing, tapOf, waiting } from '../support/networks.ts';
import { patient } from '../support/patience.ts';

type Macvtap = Extract<NicSpec, { kind: 'macvtap' }>;

const lan = { link: 'out0', hostAddress: '192.0.2.1', address: '192.0.2.9' };
const linkText = async (name: string): Promise<string> =>
  (await command('ip', '-d', 'link', 'show', name)).output;

/** Builds a NIC with an undo log that is kept. */
async function build(host: Host, vm: string, changes: Partial<Macvtap> = {}) {
  await using undo = await host.undoLog(vm);
  const nic = { kind: 'macvtap', device: 'out0', mode: 'bridge', ports: [] } as const;
  const request = { ...nic, ...changes, vm, index: 0, hostname: vm };
  const attached = await built(host.networks, request, undo);
  await attached.settle(waiting());
  undo.keep();
  return { ...attached, ...tapOf(attached) };
}

/** Whether the machine at the other end of the cable answers a guest that asks for its address. */
async function answers(nic: { readonly fd: number; readonly mac: string }): Promise<boolean> {
  const header = Buffer.alloc(10); // struct virtio_net_hdr
  const frame = arpQuestion({ mac: [nic.mac, broadcastMac], ip: ['192.0.2.20', '192.0.2.9'] });
  const until = performance.now() + patient(5000);
  while (performance.now() < until) {
    writeSync(nic.fd, Buffer.concat([header, frame]));
    await sleep(50);
    for (const bytes of received(nic.fd)) {
      const isArpReply = bytes.readUInt16BE(22) === 0x0806 && bytes.readUInt16BE(30) === 2;
      if (isArpReply) return true;
    }
  }
  return false;
}

function received(fd: number): readonly Buffer[] {
  const frames: Buffer[] = [];
  try {
    for (;;) {
      const bytes = Buffer.alloc(2048);
      frames.push(bytes.subarray(0, readSync(fd, bytes)));
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return frames;
    throw error;
  }
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter'], () => {
  test('V-123: in each mode a guest is on the network of the device', async () => {
    await using _outside = await Machine.outside(lan);
    await using host = await Host.open([], { macvtapDevices: ['out0'] });
    for (const mode of ['bridge', 'private', 'vepa', 'passthrough'] as const) {
      const nic = await build(host, 'web', { mode });
      const kernel = mode === 'passthrough' ? 'passthru' : mode;
      assert.match(await linkText(nic.name), new RegExp(`macvtap mode ${kernel} `));
      assert.match(await linkText(nic.name), /alias nomad-driver-qmp web\/0/);
      assert.equal(nic.address, undefined);
      const own = /link\/ether (\S+)/.exec(await linkText('out0'))?.[1];
      assert.equal(nic.mac, mode === 'passthrough' ? own : nicMac('web', 0));
      assert.ok(await answers(nic), `no answer with mode ${mode}`);
      const { record } = nic;
      assert.ok(record.kind === 'macvtap-nic');
      const [figures] = nicFigures([{ id: 'net0', ...record }]);
      assert.ok(figures && figures.sent.bytes >= 42 && figures.received.bytes >= 28);
      closeFd(nic.fd);
      assert.match(await linkText(nic.name), /macvtap/, 'it outlives its process');
      await host.detach('web');
      assert.deepEqual(await leftovers(), nothing);
    }
  });

  test('V-123: after a restart of the plugin a macvtap is taken up again and removed', async () => {
    await using _outside = await Machine.outside(lan);
    await using host = await Host.open([], { macvtapDevices: ['out0'] });
    const nic = await build(host, 'web', { queues: 2, mac: '52:54:00:12:34:56' });
    assert.equal(nic.fds.length, 2);
    await must('ip', 'link', 'set', nic.name, 'down');
    await using restarted = host.again([]);
    await restarted.networks.adopt({ vm: 'web', index: 0, record: nic.record }, waiting());
    assert.match(restarted.lines.join('\n'), /macvtap was down and was taken up again/);
    for (const fd of nic.fds.slice(1)) closeFd(fd);
    assert.ok(await answers(nic));
    await assert.rejects(build(restarted, 'db'), /not among those that this agent allows/);
    // Not only at adoption: whatever the host does to it while the plugin runs.
    await must('ip', 'link', 'set', nic.name, 'down');
    await restarted.networks.init(waiting());
    assert.match(await linkText(nic.name), /<[^>]*\bUP\b/);
    assert.deepEqual(restarted.events.slice(1), [
      `web: Macvtap ${nic.name} was down and was taken up again`,
    ]);
    const own6 = `net/ipv6/conf/${nic.name}/disable_ipv6`;
    await writeSysctls({ [own6]: '0' });
    for (const _look of [1, 2]) await restarted.networks.init(waiting());
    assert.equal(readSysctl(own6), '1');
    assert.deepEqual(restarted.events.splice(2), [
      `web: Macvtap ${nic.name} was changed (disable_ipv6) and was put back`,
    ]);
    // The kernel takes it along with its device; what else the plugin looks after is not held up.
    await must('ip', 'link', 'del', 'out0');
    for (const _look of [1, 2]) await restarted.networks.init(waiting());
    assert.deepEqual(restarted.events.slice(2), [
      `web: Macvtap ${nic.name} is gone, with its device: restart the task once that is back`,
    ]);
    closeFd(nic.fd);
    await host.detach('web');
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-123: a start that was interrupted right after the link was made leaves nothing', async () => {
    await using _outside = await Machine.outside(lan);
    await using host = await Host.open([], { macvtapDevices: ['out0'] });
    const nic = await build(host, 'web');
    await must('ip', 'link', 'set', nic.name, 'alias', '');
    closeFd(nic.fd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-123: what can not have a macvtap is refused with the way out', async () => {
    await using _outside = await Machine.outside(lan);
    await using host = await Host.open([], { macvtapDevices: ['out0', 'none0'] });
    await assert.rejects(build(host, 'web', { device: 'lo' }), {
      code: 'host',
      message: /^VM web: device lo is not among .* \(out0, none0\): .* macvtap_devices = \["lo"\]/,
    });
    await assert.rejects(build(host, 'web', { device: 'none0' }), /none0 does not exist/);
    await assert.rejects(build(host, 'web', { mtu: 9000 }), /mtu 9000: out0 carries 1500 bytes/);
    const mac = '52:54:00:12:34:56';
    const nic = await build(host, 'web', { mac });
    await assert.rejects(build(host, 'db', { mac }), /mac 52:54:00:12:34:56 is that of VM web/);
    await assert.rejects(build(host, 'db', { mode: 'passthrough' }), {
      code: 'host',
      message: /^VM db: making macvtap qmp\w+ on out0 failed: create macvtap/,
    });
    closeFd(nic.fd);
    await host.detach('web');
    await must('ip', 'link', 'set', 'out0', 'down');
    await assert.rejects(build(host, 'web'), /device out0 is down: ip link set out0 up/);
    assert.deepEqual(await leftovers(), nothing);
  });
});
