import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import type { ManagedNetwork } from '#spec';
import { writeSysctls } from '../../src/net/model/sysctl.ts';
import { askFromHost, Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, virbr0, waiting } from '../support/networks.ts';
import { requireOrSkip } from '../support/require.ts';

const network6: ManagedNetwork = { ...virbr0, address6: 'fd12:3456:789a::1/64' };
const [outer, outer6] = ['192.0.2.1', '2001:db8:2::1'];
const lan = {
  ...{ link: 'out0', hostAddress: outer, address: '192.0.2.9' },
  six: { hostAddress: outer6, address: '2001:db8:2::9' },
};
/** Whether frames that a bridge passes on meet the rules for IP. */
async function applyToFrames(value: string): Promise<void> {
  const programs = ['iptables', 'ip6tables'];
  const settings = programs.map((each) => [`net/bridge/bridge-nf-call-${each}`, value]);
  await writeSysctls(Object.fromEntries(settings));
}

const isThere = existsSync('/proc/sys/net/bridge/bridge-nf-call-iptables');
const published = (hostPort: number) => ({
  ports: [{ label: 'web', hostIp: '', hostPort, guestPort: 80 }],
});

/** Two agents, or two plugins, each with a directory and rules of its own, and a guest of each on one bridge. */
async function withTwo(
  network: ManagedNetwork,
  run: (o: {
    agents: readonly [Host, Host];
    one: Machine;
    two: Machine;
    /** Of the second. */
    address: string;
    six: string;
  }) => Promise<void>,
): Promise<void> {
  await must('ip', 'link', 'set', 'lo', 'up');
  await using first = await Host.open([network]);
  await using second = await Host.open([network]);
  const web = await first.attach('web', published(8080));
  const db = await second.attach('db', published(8081));
  await using one = await Machine.guest(web);
  await using two = await Machine.guest(db);
  await one.configure(web.address);
  await two.configure(db.address);
  await one.serve(80, 'web', '::');
  await two.serve(80, 'db', '::');
  const [address = '', six = ''] = [db.address?.ip, db.address?.six?.ip];
  await run({ agents: [first, second], one, two, address, six });
  for (const guest of [one, two]) await guest.unplug();
  await first.detach('web');
  await second.detach('db');
  assert.deepEqual(await leftovers(), nothing);
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat'], () => {
  for (const bridged of ['0', '1']) {
    test(`V-112 V-115: guests of two agents on one bridge are reached, and reach each other (br_netfilter ${bridged})`, async (t) => {
      if (!requireOrSkip(t, isThere || bridged === '0', 'needs br_netfilter')) return;
      if (isThere) await applyToFrames(bridged);
      await using outside = await Machine.outside(lan);
      await withTwo(network6, async ({ agents, one, two, address, six }) => {
        const passes = async (): Promise<void> => {
          for (const host of [outer, outer6]) {
            assert.match(await outside.ask('tcp', host, 8080), /^web saw /);
            assert.match(await outside.ask('udp', host, 8081), /^db saw /);
            assert.match(await two.ask('tcp', host, 8080), /^web saw /);
            assert.match(await askFromHost('tcp', host, 8081), /^db saw /);
          }
          for (const neighbour of [address, six]) {
            assert.match(await one.ask('tcp', neighbour, 80), /^db saw /);
          }
        };
        await passes();
        for (const damage of ['link del virbr0', 'addr flush dev virbr0']) {
          await must('ip', ...damage.split(' '));
          await must('nft', 'flush', 'ruleset');
          await Promise.all(agents.map((each) => each.networks.init(waiting())));
          await passes();
        }
      });
    });
  }

  test('isolated guests of one agent do not reach those of another on their bridge', async () => {
    // Else the rules for IP keep them apart.
    if (isThere) await applyToFrames('0');
    await withTwo({ ...network6, isolate: true }, async ({ one, address, six }) => {
      for (const neighbour of [address, six]) await one.askInVain('tcp', neighbour, 80);
      assert.match(await askFromHost('tcp', address, 80), /^db saw /);
    });
  });
});
