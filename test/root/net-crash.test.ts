import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd } from '#host';
import { command, inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, rules } from '../support/networks.ts';

const worker = join(import.meta.dirname, '..', 'support', 'net-worker.ts');

inOwnNetns(import.meta.url, ['ip', 'nft'], () => {
  test('V-117 V-118 D20: killed at any step, another process undoes it from disk', async (t) => {
    for (const step of [1, 2, 3]) {
      for (const moment of ['before', 'after']) {
        await t.test(`killed ${moment} step ${step}`, async () => {
          await using host = await Host.open();
          await command(process.execPath, worker, host.dir, 'crash', 'web', String(step), moment);
          assert.equal((await host.undoLog('web')).steps.length, step);
          await host.detach('web');
          assert.deepEqual(await leftovers(), nothing);
          assert.deepEqual(readdirSync(join(host.dir, 'networks')), ['lock']);
        });
      }
    }
  });

  test('killed at any moment while others go on: theirs stays, its own goes', async () => {
    await using host = await Host.open();
    const ports = [{ label: 'web', hostIp: '', hostPort: 9090, guestPort: 80 }];
    const stays = await host.attach('stays', { ports });
    const before = await rules();
    for (let round = 0; round < 12; round++) {
      const args = [worker, host.dir, 'crash', 'web', '9', 'never'];
      const child = spawn(process.execPath, args, { stdio: 'ignore' });
      const ended = new Promise((resolve) => child.once('exit', resolve));
      await sleep(60 + round * 30);
      child.kill('SIGKILL');
      await ended;
      await host.detach('web');
      assert.equal(await rules(), before);
      assert.deepEqual((await leftovers()).links.toSorted(), [stays.tap, 'virbr0'].toSorted());
    }
    closeFd(stays.tapFd);
    await host.detach('stays');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('several processes start and end VMs at once: no address twice, nothing left', async () => {
    await using host = await Host.open();
    const outputs = await Promise.all(
      ['a', 'b', 'c'].map((name) =>
        command(process.execPath, worker, host.dir, 'churn', name, '4'),
      ),
    );
    for (const { code, output } of outputs) {
      assert.equal(code, 0, output);
      for (const line of output.trim().split('\n')) {
        const addresses = line.split(' ');
        assert.equal(new Set(addresses).size, 3, output);
      }
    }
    assert.deepEqual(await leftovers(), nothing);
    assert.deepEqual(readdirSync(join(host.dir, 'networks')), ['lock']);
  });
});
