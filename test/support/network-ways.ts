import assert from 'node:assert/strict';
import { copyFileSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import type { KernelSpec } from '#spec';
import type { Domain } from '#vm';
import type { Guest, GuestName } from '../../scripts/guests/images.ts';
import { diskOn } from './disks.ts';
import { runCommand, sh } from './exec.ts';
import { ForeignNetwork } from './foreign-network.ts';
import { must } from './guest.ts';
import { guestOrSkip, network, until } from './live-vm.ts';
import { patient } from './patience.ts';
import { findProgram } from './programs.ts';
import { requireOrSkip } from './require.ts';
import { eventually, soon, VmGround } from './vm.ts';

/** What configures the network of a Debian guest. */
export interface NetworkWay {
  readonly guest: GuestName;
  /** The renderer that cloud-init takes. */
  readonly renderer: string;
  /** Units that start, and that do not, other than as the image has it. */
  readonly started?: readonly string[];
  readonly masked?: readonly string[];
  /** The seed has no network configuration: the guest asks the network. */
  readonly asks?: boolean;
}

const storage = { bridge: 'storage0', address: '10.20.0.1', prefix: 24, nameservers: [] } as const;
const usual = join(import.meta.dirname, '../../scripts/guests/debian.cmdline');

/** cloud-init takes what is between `cc:` and `end_cc` for configuration. */
function commandLine({ renderer, started = [], masked = [] }: NetworkWay): string {
  return [
    `root=LABEL=root ro net.ifnames=0 ${readFileSync(usual, 'utf8').trim()}`,
    ...started.map((unit) => `systemd.wants=${unit}`),
    ...masked.map((unit) => `systemd.mask=${unit}`),
    // As if the image had it.
    'systemd.machine_id=0123456789abcdef0123456789abcdef',
    `cc: {system_info: {network: {renderers: [${renderer}]}}} end_cc`,
  ].join(' ');
}

function kernelOf(ground: VmGround, { kernel, initrd }: Guest, way: NetworkWay): KernelSpec {
  for (const [name, path] of Object.entries({ kernel, initrd })) {
    assert.ok(path !== undefined);
    copyFileSync(path, join(ground.taskDir, name));
  }
  return { kernel: 'kernel', initrd: 'initrd', commandLine: commandLine(way) };
}

const facts = `ip -o address
ip -4 route
ip -6 route | sed 's/^default/default6/'
cat /etc/resolv.conf
! cd /run/systemd/resolve 2>/dev/null || cat resolv.conf`;

/**
 * Boots a Debian guest with two interfaces: what the seed says must come out in its kernel and resolver, and it must be reached
 * over IPv4 and IPv6. A third one asks a DHCP server that other guests of this image may ask as well.
 */
export async function networkComesUp(t: TestContext, way: NetworkWay): Promise<void> {
  if (!requireOrSkip(t, findProgram('ssh') !== undefined, 'needs ssh')) return;
  const guest = await guestOrSkip(t, way.guest);
  if (guest === undefined) return;
  await must('ip', 'link', 'set', 'lo', 'up');
  await using ground = VmGround.open({
    managedNetworks: [network, storage],
    bridges: ['lan0'],
    imagePaths: [dirname(guest.path)],
  });
  const foreign = await ForeignNetwork.open(ground);
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const usualSpec = ground.spec(0, { disks: [diskOn(guest.path, 1200)] });
  const begun = performance.now();
  const domain = await ground.virtualizer().createDomain(
    {
      ...usualSpec,
      ...pipes,
      kernel: kernelOf(ground, guest, way),
      memoryMiB: guest.memoryMiB,
      vcpus: 1,
      nics: [network, storage, foreign].map(({ bridge }) => ({
        kind: 'bridge',
        bridge,
        ports: [],
      })),
      exec: { via: 'ssh' },
      guest: {
        ...usualSpec.guest,
        dns: { servers: ['192.0.2.53'], searches: ['example.test'] },
        ...(way.asks && { networkConfig: { kind: 'inline', text: 'version: 1\nconfig: []\n' } }),
      },
    },
    soon(60_000),
  );
  const four = domain.network?.ip ?? '';
  const six = `fd12:3456:789a::${Number(four.split('.')[3]).toString(16)}`;
  const greeting = /^SSH-2\.0/;
  await until(
    async () => (await banner(four)) || log.text.slice(-2000),
    (text) => greeting.test(text),
    240_000,
  );
  t.diagnostic(`reached after ${Math.round(performance.now() - begun)} ms`);
  const known = await isConfigured(domain, { four, six });
  assert.match(await banner(six), greeting);
  const own = /eth0 +inet6 (fe80:[^/]+)/.exec(known)?.[1];
  assert.match(await banner(`${own}%${network.bridge}`), greeting);
  // NetworkManager's own choice (RFC 7217), where the seed made none.
  assert.equal(/ff:fe/.test(own ?? ''), !way.asks, own);
  await eventually(
    () => foreign.leasesByMac().length > 0,
    'a lease of the third interface',
    60_000,
  );
}

/** All that is expected is in the guest's kernel and resolver, and no second default route. */
async function isConfigured(
  domain: Domain,
  { four, six }: { readonly four: string; readonly six: string },
): Promise<string> {
  const expected = [
    new RegExp(`eth0 +inet ${four}/24 `),
    new RegExp(`eth0 +inet6 ${six}/(64|128) `),
    /eth1 +inet 10\.20\.0\.\d+\/24 /,
    /^default via 192\.168\.122\.1 dev eth0 /m,
    /^default6 .*(dev eth0|\n.*dev eth0)/m,
    /^nameserver 192\.0\.2\.53$/m,
    /^search example\.test$/m,
  ];
  const known = await until(
    async () => (await runCommand(domain, sh(facts))).stdout,
    (text) => expected.every((pattern) => pattern.test(text)),
    60_000,
  );
  assert.equal(known.match(/^default /gm)?.length, 1, known);
  assert.doesNotMatch(known, /^default6? .*eth1/m);
  return known;
}

/** What the server at the guest's ssh port begins with; nothing while there is none. */
async function banner(host: string): Promise<string> {
  const signal = AbortSignal.timeout(patient(5_000));
  try {
    for await (const data of connect({ host, port: 22, signal })) return String(data);
  } catch {
    // It does not answer yet.
  }
  return '';
}
