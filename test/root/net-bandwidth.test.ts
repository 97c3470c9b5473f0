import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { closeFd, findProgram } from '#host';
import type { Bandwidth, NicSpec } from '#spec';
import type { NicRequest } from '../../src/net/model/nic.ts';
import { Allocation } from '../support/allocation.ts';
import { Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { built, Host, leftovers, nothing, tapOf, virbr0, waiting } from '../support/networks.ts';
import { patient } from '../support/patience.ts';
import { tmpDir } from '../support/tmp.ts';

const lan = { link: 'out0', hostAddress: '192.0.2.1', address: '192.0.2.9' };
const perSecond = 2_000_000;
const transfer = 1.5 * perSecond;
// What may pass at once: where the host holds packets back a burst, where it drops them a second's worth and a burst.
const atOnce = { held: 70_000, dropped: perSecond + 70_000 };
const both: Bandwidth = { in: perSecond, out: perSecond };
const options = { macvtapDevices: ['out0'] };

const specs = (netns: string): Readonly<Record<'bridge' | 'macvtap' | 'group', NicSpec>> => ({
  bridge: {
    kind: 'bridge',
    bridge: 'virbr0',
    ports: [{ label: 'web', hostIp: '192.0.2.1', hostPort: 8080, guestPort: 80 }],
  },
  macvtap: { kind: 'macvtap', device: 'out0', mode: 'bridge', ports: [] },
  group: { kind: 'group', netns, ports: [] },
});

/** Builds a NIC with an undo log that is kept. */
async function build(host: Host, spec: NicSpec, bandwidth?: Bandwidth) {
  await using undo = await host.undoLog('web');
  const limits = bandwidth && { bandwidth };
  const request: NicRequest = { ...spec, ...limits, vm: 'web', index: 0, hostname: 'web' };
  const nic = await built(host.networks, request, undo);
  const { fd, name } = tapOf(nic);
  await nic.settle(waiting()).catch((error: unknown) => {
    closeFd(fd);
    throw error;
  });
  undo.keep();
  return { ...nic, tapFd: fd, tap: name };
}

async function run(netns: string | undefined, ...args: readonly string[]): Promise<string> {
  const there = netns === undefined ? [] : ['nsenter', `--net=${netns}`, '--'];
  const [program = '', ...rest] = [...there, ...args];
  return await must(program, ...rest);
}

/** The queues and the table of a link. */
async function limitsOf(tap: string, netns?: string): Promise<readonly [string, string]> {
  return [
    await run(netns, 'tc', 'qdisc', 'show', 'dev', tap),
    await run(netns, 'nft', '-s', 'list', 'table', 'netdev', `${tap}_rate`),
  ];
}

/** The kernel numbers queues in the order in which they are made. */
function withoutHandle(text: string): string {
  return text.replace(/^qdisc tbf \w+:/m, 'qdisc tbf');
}

/** Where the machine at the other end is reached, and where the guest is. */
const places = {
  bridge: { peer: lan.address, guest: ['192.0.2.1', 8080] },
  macvtap: { peer: lan.address, guest: ['192.0.2.20', 80] },
  group: { peer: '192.0.0.65', guest: ['192.0.0.66', 80] },
} as const;

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat', 'mount', 'tc'], () => {
  for (const kind of ['bridge', 'macvtap', 'group'] as const) {
    test(`V-124: bandwidth_in and bandwidth_out bound what passes an interface of kind ${kind}`, async () => {
      await using outside = await Machine.outside(lan);
      await using allocation = await Allocation.isolated();
      await using host = await Host.open([virbr0], options);
      const spec = specs(allocation.path)[kind];
      const {
        peer,
        guest: [address, port],
      } = places[kind];
      const machine = kind === 'group' ? allocation : outside;
      await machine.serve(7000, 'peer');
      /** How many seconds a transfer takes in each direction. */
      const measure = async (bandwidth?: Bandwidth): Promise<Required<Bandwidth>> => {
        const nic = await build(host, spec, bandwidth);
        await using guest = await Machine.guest({ ...nic, offload: kind === 'macvtap' });
        await guest.configure(nic.address ?? { ip: '192.0.2.20', prefix: 24 });
        await guest.serve(80, 'guest');
        const taken = {
          in: await guest.pull(peer, 7000, transfer),
          out: await machine.pull(address, port, transfer),
        };
        await guest.unplug();
        await host.detach('web');
        return taken;
      };
      const limited = await measure(both);
      for (const way of ['in', 'out'] as const) {
        const isHeld = (way === 'in') === (kind !== 'macvtap');
        const least = (transfer - (isHeld ? atOnce.held : atOnce.dropped)) / perSecond;
        assert.ok(limited[way] >= least, `${way}: ${limited[way]} s, and not at least ${least}`);
      }
      const until = performance.now() + patient(30_000);
      let free = await measure();
      while (free.in >= limited.in / 2 || free.out >= limited.out / 2) {
        assert.ok(performance.now() < until, JSON.stringify({ free, limited }));
        free = await measure();
      }
      assert.deepEqual(await leftovers(), nothing);
    });

    test(`V-124 V-118: limits that are gone come back, for a NIC of kind ${kind}`, async () => {
      await using _outside = await Machine.outside(lan);
      await using allocation = await Allocation.isolated();
      await using host = await Host.open([virbr0], options);
      const nic = await build(host, specs(allocation.path)[kind], both);
      const netns = kind === 'group' ? allocation.path : undefined;
      const made = await limitsOf(nic.tap, netns);
      assert.match(made[0], /^qdisc tbf .* rate 16Mbit burst 64Kb/);
      assert.match(made[1], /limit rate over 2000000 bytes\/second/);
      const remove = async (...rules: readonly string[]): Promise<void> => {
        await run(netns, 'tc', 'qdisc', 'del', 'dev', nic.tap, 'root');
        await run(netns, 'nft', 'flush', ...rules);
      };
      await remove('ruleset');
      await host.networks.init(waiting());
      assert.deepEqual(
        (await limitsOf(nic.tap, netns)).map(withoutHandle),
        made.map(withoutHandle),
      );
      assert.match(host.lines.join('\n'), /limits of bandwidth were gone and were put back/);
      assert.ok(host.events.includes('web: Limits of bandwidth were gone and were put back'));

      await remove('table', 'netdev', `${nic.tap}_rate`);
      await using restarted = host.again([virbr0], options);
      await restarted.networks.adopt({ vm: 'web', index: 0, record: nic.record }, waiting());
      assert.deepEqual(
        (await limitsOf(nic.tap, netns)).map(withoutHandle),
        made.map(withoutHandle),
      );

      for (const fd of [nic.tapFd]) closeFd(fd);
      await host.detach('web');
      await host.detach('web');
      assert.deepEqual(await leftovers(), nothing);
    });
  }

  test('V-124: a limit that the host can not set is an error that names its key, and nothing is left', async (t) => {
    const nft = join(tmpDir(t), 'nft');
    const real = findProgram('nft') ?? 'nft';
    // As a kernel without the hook: CONFIG_NETFILTER_INGRESS.
    const refuse = `rules=$(cat)\ncase "$rules" in *"hook ingress"*) echo "Error: Operation not supported" >&2; exit 1;; esac`;
    await writeFile(nft, `#!/bin/sh\n${refuse}\nprintf %s "$rules" | ${real} "$@"\n`, {
      mode: 0o755,
    });
    await using host = await Host.open([virbr0], { nft });
    const { bridge } = specs('');
    await assert.rejects(build(host, bridge, { out: perSecond }), {
      code: 'host',
      message: /^VM web: bandwidth_out can't be limited here: nft refused .* not supported/,
    });
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });
});
