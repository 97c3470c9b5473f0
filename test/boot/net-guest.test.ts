import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd, findProgram, kill, spawnDetached } from '#host';
import { type Guest, guestImage } from '../../scripts/guests/images.ts';
import { diskOn } from '../support/disks.ts';
import { askFromHost, Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, virbr0, waiting } from '../support/networks.ts';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

const ports = [
  { label: 'http', hostIp: '', hostPort: 8080, guestPort: 80 },
  { label: 'echo', hostIp: '127.0.0.1', hostPort: 7777, guestPort: 7777 },
];

async function tinyGuest(t: TestContext): Promise<Guest | undefined> {
  if (!canRunVms(t)) return undefined;
  try {
    return await guestImage('tiny');
  } catch (error) {
    requireOrSkip(t, false, String(error));
    return undefined;
  }
}

/** Asks until the guest has booted far enough to answer. */
async function answer(ask: () => Promise<string>, expected: RegExp): Promise<void> {
  const until = performance.now() + patient(40_000);
  for (;;) {
    const said = await ask();
    if (expected.test(said)) return;
    assert.ok(performance.now() < until, `no answer like ${expected} in time, but: ${said}`);
    await sleep(200);
  }
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'qemu-system-x86_64'], () => {
  test('V-108 V-110 V-113 V-115 V-122: a real guest serves at once at its published address, also over IPv6', async (t) => {
    const guest = await tinyGuest(t);
    if (guest === undefined) return;
    await must('ip', 'link', 'set', 'lo', 'up');
    await using outside = await Machine.outside({
      link: 'out0',
      hostAddress: '192.0.2.1',
      address: '192.0.2.9',
    });
    await using ground = VmGround.open({
      managedNetworks: [{ ...virbr0, address6: 'fd12:3456:789a::1/64' }],
      imagePaths: [dirname(guest.path)],
    });
    const domain = await ground.virtualizer().createDomain(
      ground.spec(0, {
        disks: [diskOn(guest.path, 64)],
        memoryMiB: guest.memoryMiB,
        nics: [{ kind: 'bridge', bridge: 'virbr0', ports }],
      }),
      soon(),
    );
    const ip = domain.network?.ip ?? '';
    assert.match(ip, /^192\.168\.122\.\d+$/, 'the address is known before the guest boots');
    await answer(() => askFromHost('tcp', '127.0.0.1', 8080), /hello from guest/);
    await answer(() => askFromHost('tcp', ip, 80), /hello from guest/);
    await answer(() => outside.ask('tcp', '192.0.2.1', 8080), /hello from guest/);
    await answer(() => askFromHost('udp', '127.0.0.1', 7777), /\?/);
    const place = Number(ip.split('.')[3]).toString(16);
    await answer(() => askFromHost('tcp', `fd12:3456:789a::${place}`, 80), /hello from guest/);
    await ground.virtualizer().destroyDomain(domain.name);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-110 V-120: a real guest without a seed gets its address by DHCP', async (t) => {
    const guest = await tinyGuest(t);
    if (guest?.kernel === undefined || guest.initrd === undefined) return;
    await must('ip', 'link', 'set', 'lo', 'up');
    await using host = await Host.open();
    const nic = await host.attach('web', { hostname: 'by-dhcp', ports });
    const { tapFd, mac } = nic;
    const device = `virtio-net-pci,netdev=n0,mac=${mac},romfile=`;
    const machine = await spawnDetached({
      program: findProgram('qemu-system-x86_64') ?? '',
      args: [
        ...['-accel', 'tcg', '-M', 'q35', '-m', '128', '-nodefaults', '-display', 'none'],
        ...['-kernel', guest.kernel, '-initrd', guest.initrd],
        ...['-append', 'console=ttyS0 quiet', '-serial', 'null'],
        ...['-netdev', 'tap,id=n0,fd=3', '-device', device],
      ],
      stdio: ['ignore', 'ignore', 'ignore', tapFd],
    });
    closeFd(tapFd);
    try {
      await answer(() => askFromHost('tcp', nic.address?.ip ?? '', 80), /hello from/);
      assert.match(
        host.lines.join('\n'),
        /DHCP reply .*"vm":"web","query":"request","reply":"ack"/,
      );
    } finally {
      await kill(machine.identity, waiting());
    }
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });
});
