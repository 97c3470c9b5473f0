import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closeFd } from '#host';
import { readSysctl, writeSysctls } from '../../src/net/model/sysctl.ts';
import { must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, virbr0, waiting } from '../support/networks.ts';

const sysctls = [
  'ipv4/conf/*/route_localnet',
  'ipv4/conf/*/arp_ignore',
  'ipv6/conf/*/accept_ra',
  'ipv6/conf/*/accept_dad',
  'ipv6/conf/*/addr_gen_mode',
  'ipv6/conf/*/disable_ipv6',
];

/** What links are set to, without what time or traffic changes. */
async function settingsOf(...links: readonly string[]): Promise<readonly string[]> {
  const found = await Promise.all(
    links.map(async (link) => [
      ...sysctls.map((name) => `${name} ${readSysctl(`net/${name.replace('*', link)}`)}`),
      await must('ip', '-d', 'link', 'show', link),
    ]),
  );
  return found.flat().map((text) => text.replaceAll(/_timer +\S+/g, ''));
}

const set = (name: string, value: string) => () => writeSysctls({ [`net/${name}`]: value });
const link =
  (...words: readonly string[]) =>
  () =>
    must('ip', 'link', 'set', ...words);

type Change = readonly [key: string, change: () => Promise<unknown>];

const ofBridge: readonly Change[] = [
  ['route_localnet', set('ipv4/conf/virbr0/route_localnet', '0')],
  ['accept_ra', set('ipv6/conf/virbr0/accept_ra', '1')],
  ['accept_dad', set('ipv6/conf/virbr0/accept_dad', '1')],
  ['addr_gen_mode', set('ipv6/conf/virbr0/addr_gen_mode', '1')],
  ['disable_ipv6', set('ipv6/conf/virbr0/disable_ipv6', '0')],
  ['mtu', link('virbr0', 'mtu', '1300')],
  ['no_linklocal_learn', link('virbr0', 'type', 'bridge', 'no_linklocal_learn', '0')],
];

function ofTap(tap: string): readonly Change[] {
  return [
    ['address', link(tap, 'address', '02:00:00:00:00:01')],
    ['mtu', link(tap, 'mtu', '1300')],
    ['arp_ignore', set(`ipv4/conf/${tap}/arp_ignore`, '0')],
    ...silenced(tap),
  ];
}

function silenced(name: string): readonly Change[] {
  return [
    ['accept_ra', set(`ipv6/conf/${name}/accept_ra`, '1')],
    ['disable_ipv6', set(`ipv6/conf/${name}/disable_ipv6`, '0')],
  ];
}

/** Each change is undone at the next look at the host, and is one event. */
async function comesBack(
  host: Host,
  links: readonly string[],
  changes: readonly Change[],
  event: string,
): Promise<void> {
  await host.networks.init(waiting());
  const before = await settingsOf(...links);
  assert.deepEqual(host.events, []);
  for (const [key, change] of changes) {
    await change();
    assert.notDeepEqual(await settingsOf(...links), before, key);
    for (const _ of ['put back', 'whole']) await host.networks.init(waiting());
    assert.deepEqual(await settingsOf(...links), before, key);
    assert.deepEqual(host.events.splice(0), [`${event} was changed (${key}) and was put back`]);
  }
}

inOwnNetns(import.meta.url, ['ip', 'nft'], () => {
  test('V-111: what other programs set of a managed bridge and its taps comes back', async () => {
    await using host = await Host.open([{ ...virbr0, mtu: 1400 }]);
    const { tap, tapFd } = await host.attach('web');
    await comesBack(host, ['virbr0', tap], ofBridge, 'web: Bridge virbr0');
    const hairpin: Change = ['hairpin', link(tap, 'type', 'bridge_slave', 'hairpin', 'off')];
    await comesBack(host, ['virbr0', tap], [hairpin, ...ofTap(tap)], `web: Tap ${tap}`);
    closeFd(tapFd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-111: a tap whose MTU was lowered in a network without one has it again', async () => {
    await using host = await Host.open();
    const { tap, tapFd } = await host.attach('web');
    // The bridge follows its ports.
    const lowered: Change = ['mtu', link(tap, 'mtu', '1300')];
    await comesBack(host, ['virbr0', tap], [lowered], `web: Tap ${tap}`);
    closeFd(tapFd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-111: on a bridge of others only the tap is put back', async () => {
    await must('ip', 'link', 'add', 'br0', 'up', 'type', 'bridge');
    await using host = await Host.open([virbr0], { bridges: ['br0'] });
    const { tap, tapFd } = await host.attach('web', { bridge: 'br0' });
    await comesBack(host, [tap], ofTap(tap), `web: Tap ${tap}`);
    await link(tap, 'type', 'bridge_slave', 'hairpin', 'on')();
    await writeSysctls({ 'net/ipv4/conf/br0/route_localnet': '1' });
    const changed = await settingsOf('br0', tap);
    await host.networks.init(waiting());
    assert.deepEqual(await settingsOf('br0', tap), changed);
    assert.deepEqual(host.events, []);
    closeFd(tapFd);
    await host.detach('web');
    await must('ip', 'link', 'del', 'br0');
    assert.deepEqual(await leftovers(), nothing);
  });
});
