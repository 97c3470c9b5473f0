import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { closeFd, findProgram, UndoLog } from '#host';
import { decodeNetUndo, type NetUndo } from '#net';
import { command, inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, tapOf, virbr0, waiting } from '../support/networks.ts';
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
  test('a build returns before the rules are there; its tap joins the bridge after them', async (t) => {
    const { nft, go } = slowNft(tmpDir(t));
    await using host = await Host.open([virbr0], { nft });
    const undo = (await host.undoLog('web')).keep();
    const nic = await host.networks.vmStartedBuild(request('web'), undo, waiting());
    assert.match(nic.address?.ip ?? '', /^192\.168\.122\./);
    assert.deepEqual(
      undo.steps.map(({ kind }) => kind),
      ['net-bridge', 'net-claim', 'net-tap'],
    );
    assert.doesNotMatch(await linkOf(tapOf(nic).name), /master/);
    assert.doesNotMatch(await linkOf(tapOf(nic).name), /state UP/);
    assert.deepEqual((await leftovers()).tables, []);
    writeFileSync(go, '');
    assert.deepEqual(await nic.settled, []);
    assert.match(await linkOf(tapOf(nic).name), /master virbr0/);
    assert.equal((await leftovers()).tables.length, 3);
    closeFd(tapOf(nic).fd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a conflict over a port is found before the build returns, also while the other VM settles', async (t) => {
    const { nft, go } = slowNft(tmpDir(t));
    await using host = await Host.open([virbr0], { nft });
    const undo = (await host.undoLog('first')).keep();
    const first = await host.networks.vmStartedBuild(request('first'), undo, waiting());
    const second = host.networks.vmStartedBuild(
      request('second'),
      (await host.undoLog('second')).keep(),
      waiting(),
    );
    writeFileSync(go, '');
    await assert.rejects(second, /port web on \*:8080 is already mapped to VM first/);
    await first.settled;
    closeFd(tapOf(first).fd);
    await host.detach('second');
    await host.detach('first');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('rules that are refused reject `settled`, unobserved or not, and the undo steps clean up', async (t) => {
    const { nft, go } = slowNft(tmpDir(t));
    const dir = tmpDir(t);
    const real = await Host.open();
    await using _ = real;
    await using host = real.again([virbr0], { nft });
    const undo = await UndoLog.open<NetUndo>(
      join(dir, 'undo'),
      (step, limited) => real.networks.vmTerminatedTeardown(step, limited),
      { decode: (json) => decodeNetUndo(json) as NetUndo, log: console },
    );
    const nic = await host.networks.vmStartedBuild(request('web'), undo.keep(), waiting());
    const unhandled: unknown[] = [];
    const note = (error: unknown): void => void unhandled.push(error);
    process.on('unhandledRejection', note);
    closeFd(tapOf(nic).fd);
    // It waits for the lock, which is released only once the build has settled.
    const teardown = undo.rollback(waiting());
    writeFileSync(go, 'refuse');
    assert.deepEqual((await teardown).failed, []);
    process.off('unhandledRejection', note);
    assert.deepEqual(unhandled, []);
    await assert.rejects(nic.settled, { code: 'host', message: /nft refused the rules: no/ });
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
