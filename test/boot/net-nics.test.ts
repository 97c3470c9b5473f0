import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { askFromHost, Machine, must } from '../support/guest.ts';
import { sectorImage } from '../support/images.ts';
import { guestOrSkip, guestSpec, port, remoteShell, runIn, told } from '../support/live-vm.ts';
import { inOwnNetns } from '../support/netns.ts';
import { leftovers, nothing, virbr0 } from '../support/networks.ts';
import { soon, VmGround } from '../support/vm.ts';

const storage = { ...virbr0, bridge: 'storage0', address: '10.77.0.1' };

/** A program of the host that only the host should reach. */
async function secretOfHost(address: string, number: number): Promise<AsyncDisposable> {
  const server = createServer((client) => client.end('secret\n'));
  await new Promise<void>((resolve) => server.listen(number, address, resolve));
  return { [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) };
}

const defaultRoutes = "ip route | sed -n 's/^\\(default.*[^ ]\\) *$/\\1/p'";

const queues = ['tx-0', 'tx-1'].map((name) => `/sys/class/net/eth0/queues/${name}`).join('\n');

/** The devices by which a guest's kernel knows each card. */
const pciIds = {
  e1000e: '0x10d3',
  rtl8139: '0x8139',
  vmxnet3: '0x07b0',
  'e1000-82544gc': '0x100c',
  'e1000-82545em': '0x100f',
  i82551: '0x1209',
  ne2k_pci: '0x8029',
  pcnet: '0x2000',
  tulip: '0x0019',
} as const;
const models = Object.keys(pciIds) as (keyof typeof pciIds)[];

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'tc', 'qemu-system-x86_64'], () => {
  test('V-24 V-108 V-124: two bridges and the user-mode network in one guest, through a restart of the plugin', async (t) => {
    const guest = await guestOrSkip(t, 'tiny');
    if (guest === undefined) return;
    await must('ip', 'link', 'set', 'lo', 'up');
    await using outside = await Machine.outside({
      link: 'out0',
      hostAddress: '192.0.2.1',
      address: '192.0.2.9',
    });
    await using ground = VmGround.open({
      managedNetworks: [virbr0, storage],
      imagePaths: [dirname(guest.path)],
    });
    const pipes = ground.pipes();
    const log = ground.read(pipes.stdoutPath);
    const base = guestSpec(ground, guest, pipes);
    const spec = {
      ...base,
      guest: { ...base.guest, userData: { kind: 'inline', text: remoteShell() } },
      nics: [
        {
          kind: 'bridge',
          bridge: 'virbr0',
          ports: [port('http', 8080, 80)],
          bandwidth: { in: 12_000_000, out: 12_000_000 },
        },
        { kind: 'bridge', bridge: 'storage0', ports: [port('data', 8081, 80)], defaultRoute: true },
        { kind: 'user', ports: [{ ...port('local', 8082, 80), hostIp: '127.0.0.1' }] },
      ],
    } as const;
    const first = ground.virtualizer();
    const domain = await first.createDomain(spec, soon());
    await told(log, /TINY-READY/, 120_000);

    const hello = /hello from guest/;
    assert.match(await askFromHost('tcp', '127.0.0.1', 8082), hello);
    assert.match(await askFromHost('tcp', domain.network?.ip ?? '', 80), hello);
    assert.match(await outside.ask('tcp', '192.0.2.1', 8081), hello);
    assert.deepEqual(domain.network?.portMap, { http: 80, data: 80, local: 80 });
    const run = (script: string): Promise<string> => runIn('127.0.0.1:8082', script);
    assert.match(await run('ip -o -4 addr show dev eth0'), /inet 192\.168\.122\.\d+\/24/);
    assert.match(await run('ip -o -4 addr show dev eth1'), /inet 10\.77\.0\.\d+\/24/);
    assert.match(await run('ip -o -4 addr show dev eth2'), /inet 10\.0\.2\.15\/24/);
    assert.equal(await run(defaultRoutes), 'default via 10.77.0.1 dev eth1');
    const lease = await run(
      'ip addr flush dev eth0; udhcpc -i eth0 -n -q -t 5 -T 1 -s /sbin/udhcpc.sh >/dev/null 2>&1; ' +
        defaultRoutes,
    );
    assert.equal(lease, 'default via 10.77.0.1 dev eth1', 'DHCP agrees with the seed');

    const limit = /qdisc tbf \w+: dev (qmp\w+) root .* rate 96Mbit/;
    const [, tap = ''] = limit.exec(await must('tc', 'qdisc', 'show')) ?? [];
    await must('tc', 'qdisc', 'del', 'dev', tap, 'root');
    const second = ground.virtualizer();
    await first[Symbol.asyncDispose]();
    const adopted = await second.recoverDomain(domain.record, spec, soon());
    assert.deepEqual(adopted?.network, domain.network);
    assert.match(await must('tc', 'qdisc', 'show', 'dev', tap), /qdisc tbf .* rate 96Mbit/);
    assert.match(await askFromHost('tcp', '127.0.0.1', 8082), hello);
    assert.match(await outside.ask('tcp', '192.0.2.1', 8081), hello);
    await second.destroyDomain(domain.name);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-124 V-120: address, MAC address, MTU, queues and model are those of the job', async (t) => {
    const guest = await guestOrSkip(t, 'tiny');
    if (guest === undefined) return;
    await must('ip', 'link', 'set', 'lo', 'up');
    await using ground = VmGround.open({
      managedNetworks: [virbr0],
      imagePaths: [dirname(guest.path), dirname(sectorImage(0))],
    });
    const pipes = ground.pipes();
    const log = ground.read(pipes.stdoutPath);
    const base = guestSpec(ground, guest, pipes);
    const on = { kind: 'bridge', bridge: 'virbr0', ports: [] } as const;
    const card = { ...on, ip: '192.168.122.50', mac: '52:54:00:12:34:56', mtu: 1400, queues: 2 };
    const virtualizer = ground.virtualizer();
    const domain = await virtualizer.createDomain(
      {
        ...base,
        vcpus: 2,
        guest: { ...base.guest, userData: { kind: 'inline', text: remoteShell() } },
        nics: [card, ...models.map((model) => ({ ...on, model }))],
      },
      soon(),
    );
    await told(log, /TINY-READY/, 120_000);
    assert.equal(domain.network?.ip, card.ip);
    const run = (script: string): Promise<string> => runIn(card.ip, script);
    assert.match(await run('cat /sys/class/net/eth0/address'), new RegExp(card.mac));
    assert.equal(await run('cat /sys/class/net/eth0/mtu'), '1400');
    assert.equal(await run('ls -d /sys/class/net/eth0/queues/tx-*'), queues);
    const cards = (await run('cat /sys/bus/pci/devices/*/device')).split(/\s+/);
    for (const model of models) assert.ok(cards.includes(pciIds[model]), model);
    const refused = {
      'ip 192\\.168\\.122\\.50 in network virbr0 is taken by VM vm-0': { ...on, ip: card.ip },
      'mac 52:54:00:12:34:56 is that of VM vm-0': { ...on, mac: card.mac },
    };
    for (const [message, nic] of Object.entries(refused)) {
      const other = ground.spec(0, { name: 'vm-1', nics: [nic] });
      await assert.rejects(virtualizer.createDomain(other, soon()), {
        recoverable: true,
        message: new RegExp(message),
      });
    }
    await virtualizer.destroyDomain(domain.name);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-123: a guest on a device of the host is reached there, and goes without a trace', async (t) => {
    const guest = await guestOrSkip(t, 'tiny');
    if (guest === undefined) return;
    await must('ip', 'link', 'set', 'lo', 'up');
    await using outside = await Machine.outside({
      link: 'out0',
      hostAddress: '192.0.2.1',
      address: '192.0.2.9',
    });
    await outside.serve(4646, 'outside');
    await using ground = VmGround.open({
      macvtapDevices: ['out0'],
      imagePaths: [dirname(guest.path)],
    });
    const pipes = ground.pipes();
    const log = ground.read(pipes.stdoutPath);
    const base = guestSpec(ground, guest, pipes);
    const spec = {
      ...base,
      guest: { ...base.guest, userData: { kind: 'inline', text: remoteShell() } },
      nics: [
        { kind: 'macvtap', device: 'out0', mode: 'bridge', ports: [], mtu: 1400 },
        { kind: 'user', ports: [port('local', 8082, 80)] },
      ],
    } as const;
    const first = ground.virtualizer();
    const domain = await first.createDomain(spec, soon());
    await told(log, /TINY-READY/, 120_000);
    const run = (script: string): Promise<string> => runIn('127.0.0.1:8082', script);
    const seed = await run('wget -q -O - http://127.0.0.1/cidata/network-config');
    assert.match(seed, /mtu"?: 1400/, 'cards of other models have it from there alone');
    await run('killall udhcpc; ip addr add 192.0.2.20/24 dev eth0');
    assert.match(await outside.ask('tcp', '192.0.2.20', 80), /hello from guest/);
    assert.match(await run('wget -q -O - http://192.0.2.9:4646/'), /outside saw 192\.0\.2\.20/);
    const second = ground.virtualizer();
    await first[Symbol.asyncDispose]();
    await second.recoverDomain(domain.record, spec, soon());
    assert.match(await outside.ask('tcp', '192.0.2.20', 80), /hello from guest/);
    await second.destroyDomain(domain.name);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-124: from the user-mode network a guest reaches neither the host nor beyond', async (t) => {
    const guest = await guestOrSkip(t, 'tiny');
    if (guest === undefined) return;
    await must('ip', 'link', 'set', 'lo', 'up');
    await using outside = await Machine.outside({
      link: 'out0',
      hostAddress: '192.0.2.1',
      address: '192.0.2.9',
    });
    await outside.serve(4646, 'outside');
    await using _loopback = await secretOfHost('127.0.0.1', 4646);
    await using _link = await secretOfHost('192.0.2.1', 4646);
    await using ground = VmGround.open({
      imagePaths: [dirname(guest.path), dirname(sectorImage(0))],
    });
    const pipes = ground.pipes();
    const log = ground.read(pipes.stdoutPath);
    const base = guestSpec(ground, guest, pipes);
    const virtualizer = ground.virtualizer();
    const domain = await virtualizer.createDomain(
      {
        ...base,
        guest: { ...base.guest, userData: { kind: 'inline', text: remoteShell() } },
        nics: [{ kind: 'user', ports: [port('http', 8080, 80)] }],
      },
      soon(),
    );
    await told(log, /TINY-READY/, 120_000);
    assert.match(await outside.ask('tcp', '192.0.2.1', 8080), /hello from guest/);
    const ask = (to: string): Promise<string> =>
      runIn('127.0.0.1:8080', `echo | nc -w 2 ${to} 4646 2>&1; echo "end $?"`);
    for (const to of ['10.0.2.2', '10.0.2.3', '192.0.2.1', '192.0.2.9', '169.254.169.254']) {
      assert.match(await ask(to), /^(?!.*(secret|saw)).*end [1-9]/s, to);
    }
    await assert.rejects(
      virtualizer.createDomain(
        ground.spec(0, { name: 'vm-1', nics: [{ kind: 'user', ports: [port('http', 8080, 80)] }] }),
        soon(),
      ),
      /port http on \*:8080 can't be mapped: a program of this host listens there already/,
    );
    await assert.rejects(
      virtualizer.createDomain(
        ground.spec(0, { name: 'vm-1', nics: [{ kind: 'user', ports: [port('low', 80, 80)] }] }),
        soon(),
      ),
      /port low on \*:80: QEMU listens there itself, without privileges, .* below 1024/,
    );
    await virtualizer.destroyDomain(domain.name);
    assert.deepEqual(await leftovers(), nothing);
  });
});
