import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { closeFd, findProgram, UndoLog } from '#host';
import { decodeNetUndo, type NetUndo } from '#net';
import { command, inOwnNetns } from '../support/netns.ts';
import { built, Host, leftovers, nothing, tapOf, virbr0, waiting } from '../support/networks.ts';
import { slowNft } from '../support/slow-nft.ts';
import { tmpDir } from '../support/tmp.ts';

const request = (vm: string) => ({
  kind: 'bridge' as const,
  vm,
  index: 0,
  bridge: 'virbr0',
  ports: [{ label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 }],
  hostname: vm,
});

/** nft that counts how often rules are applied. */
function countedNft(t: TestContext): { readonly nft: string; readonly runs: () => number } {
  const dir = tmpDir(t);
  const runs = join(dir, 'runs');
  const nft = join(dir, 'nft');
  const real = findProgram('nft') ?? 'nft';
  writeFileSync(runs, '');
  writeFileSync(nft, `#!/bin/sh\n[ "$1" = -f ] && echo >>${runs}\nexec ${real} "$@"\n`);
  chmodSync(nft, 0o755);
  return { nft, runs: () => readFileSync(runs).length };
}

const linkOf = async (name: string): Promise<string> =>
  (await command('ip', 'link', 'show', name)).output;

inOwnNetns(import.meta.url, ['ip', 'nft'], () => {
  test('a build applies no rules; settling applies them, and then the tap joins the bridge', async (t) => {
    const { nft, go } = slowNft(tmpDir(t));
    await using host = await Host.open([virbr0], { nft });
    const undo = (await host.undoLog('web')).keep();
    const nic = await built(host.networks, request('web'), undo);
    assert.match(nic.address?.ip ?? '', /^192\.168\.122\./);
    assert.deepEqual(
      undo.steps.map(({ kind }) => kind),
      ['net-bridge', 'net-tap', 'net-claim', 'net-tap'],
    );
    const settled = nic.settle(waiting());
    assert.doesNotMatch(await linkOf(tapOf(nic).name), /master/);
    assert.doesNotMatch(await linkOf(tapOf(nic).name), /state UP/);
    assert.deepEqual((await leftovers()).tables, []);
    writeFileSync(go, '');
    assert.deepEqual(await settled, []);
    assert.match(await linkOf(tapOf(nic).name), /master virbr0/);
    assert.equal((await leftovers()).tables.length, 3);
    closeFd(tapOf(nic).fd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a conflict over a port is found with the address, also before the other VM has settled', async () => {
    await using host = await Host.open();
    const undo = (await host.undoLog('first')).keep();
    const first = await built(host.networks, request('first'), undo);
    await assert.rejects(
      built(host.networks, request('second'), (await host.undoLog('second')).keep()),
      /port web on \*:8080 is already mapped to VM first/,
    );
    await first.settle(waiting());
    closeFd(tapOf(first).fd);
    await host.detach('second');
    await host.detach('first');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a bridge that another agent removes meanwhile is made again', async () => {
    await using own = await Host.open();
    await using agent = await Host.open();
    const other = await agent.attach('other');
    const undo = (await own.undoLog('web')).keep();
    const nic = await built(own.networks, request('web'), undo);
    closeFd(other.tapFd);
    await agent.detach('other');
    assert.match(await linkOf('virbr0'), /does not exist/);
    await nic.settle(waiting());
    assert.match(await linkOf(tapOf(nic).name), /master virbr0/);
    const { output } = await command('nft', 'list', 'ruleset');
    assert.match(output, /set owned \{\n\s+type ifname\n\s+elements = \{ "virbr0" \}/);
    closeFd(tapOf(nic).fd);
    await own.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a tap that has not joined its bridge yet joins it by its own start alone, and is no repair', async () => {
    await using host = await Host.open();
    const undoOf = async (vm: string) => (await host.undoLog(vm)).keep();
    const first = await built(host.networks, request('first'), await undoOf('first'));
    const other = { ...request('second'), ports: [] };
    const second = await built(host.networks, other, await undoOf('second'));
    const joined = async (): Promise<readonly boolean[]> => {
      const links = await Promise.all([first, second].map((nic) => linkOf(tapOf(nic).name)));
      return links.map((link) => /master virbr0/.test(link));
    };
    await host.networks.init(waiting());
    assert.deepEqual(await joined(), [false, false]);
    await first.settle(waiting());
    await host.networks.init(waiting());
    assert.deepEqual(await joined(), [true, false]);
    await command('ip', 'link', 'del', 'virbr0');
    await host.networks.init(waiting());
    assert.deepEqual(await joined(), [true, false]);
    assert.deepEqual(
      host.events.filter((repair) => !repair.startsWith('first: ')),
      [],
    );
    await second.settle(waiting());
    assert.deepEqual(await joined(), [true, true]);
    await command('ip', 'link', 'set', tapOf(second).name, 'nomaster');
    await host.networks.init(waiting());
    assert.deepEqual(await joined(), [true, true]);
    for (const [vm, nic] of Object.entries({ first, second })) {
      closeFd(tapOf(nic).fd);
      await host.detach(vm);
    }
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a NIC that is never settled holds up no other VM, and its undo steps clean up', async () => {
    await using host = await Host.open();
    const undo = (await host.undoLog('dead')).keep();
    const dead = await built(host.networks, request('dead'), undo);
    const other = await host.attach('other');
    // As when a start fails before QEMU is spawned.
    closeFd(tapOf(dead).fd);
    await host.detach('dead');
    assert.match(await linkOf(other.tap), /master virbr0/);
    closeFd(other.tapFd);
    await host.detach('other');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('rules that are refused are an error of settling, and the undo steps clean up', async (t) => {
    const { nft, go } = slowNft(tmpDir(t));
    writeFileSync(go, 'refuse');
    const dir = tmpDir(t);
    const real = await Host.open();
    await using _ = real;
    await using host = real.again([virbr0], { nft });
    const undo = await UndoLog.open<NetUndo>(
      join(dir, 'undo'),
      (step, limited) => real.networks.vmTerminatedTeardown(step, limited),
      { decode: (json) => decodeNetUndo(json) as NetUndo, log: console },
    );
    const nic = await built(host.networks, request('web'), undo.keep());
    await assert.rejects(nic.settle(waiting()), {
      code: 'host',
      message: /nft refused the rules: no/,
    });
    closeFd(tapOf(nic).fd);
    assert.deepEqual((await undo.rollback(waiting())).failed, []);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('rules are applied once for each VM that starts or ends, the last one of a network included', async (t) => {
    const { nft, runs } = countedNft(t);
    await using host = await Host.open([virbr0], { nft });
    for (const [count, vm] of ['first', 'second'].entries()) {
      closeFd((await host.attach(vm)).tapFd);
      assert.equal(runs(), count + 1);
    }
    await host.detach('second');
    assert.equal(runs(), 3);
    await host.detach('first');
    assert.equal(runs(), 4);
    assert.deepEqual(await leftovers(), nothing);
  });
});
