import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { findProgram } from '#host';
import { Machine, must } from '../support/guest.ts';
import { command, inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing } from '../support/networks.ts';
import { tmpDir } from '../support/tmp.ts';

/** nft that notes how it is run: `whole`, `changes` or `list`. */
function observedNft(t: TestContext): { readonly nft: string; readonly runs: () => string[] } {
  const dir = tmpDir(t);
  const [log, input, nft] = ['log', 'input', 'nft'].map((name) => join(dir, name)) as [
    string,
    string,
    string,
  ];
  const real = findProgram('nft') ?? 'nft';
  writeFileSync(log, '');
  writeFileSync(
    nft,
    `#!/bin/sh
if [ "$1" != -f ]; then echo list >>${log}; exec ${real} "$@"; fi
cat >${input}
if grep -q '^delete table' ${input}; then echo whole >>${log}; else echo changes >>${log}; fi
exec ${real} -f ${input}
`,
  );
  chmodSync(nft, 0o755);
  const runs = (): string[] => {
    const seen = readFileSync(log, 'utf8').trim().split('\n').filter(Boolean);
    writeFileSync(log, '');
    return seen;
  };
  return { nft, runs };
}

/** All tables, without counters; the order of tables and of elements has no meaning. */
async function ruleset(): Promise<string> {
  const { output } = await command('nft', '-s', 'list', 'ruleset');
  const sorted = (list: string): string => list.split(/,\s+/).toSorted().join(', ');
  const tables = output.split(/^(?=table )/m).toSorted();
  return tables.join('').replaceAll(/elements = \{ (.*?) \}/gs, (_, list: string) => sorted(list));
}

const port = (hostPort: number) => [{ label: 'web', hostIp: '', hostPort, guestPort: 80 }];

/** A change of rules by another program, which leaves none. */
async function touchRules(): Promise<void> {
  await must('nft', 'add', 'table', 'ip', 'other');
  await must('nft', 'delete', 'table', 'ip', 'other');
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat'], () => {
  test('V-112: a VM more or less changes the rules in place, to those that a whole load makes', async (t) => {
    const { nft, runs } = observedNft(t);
    await using host = await Host.open(undefined, { nft });
    await using first = await Machine.guest(await host.attach('first', { ports: port(8080) }));
    assert.deepEqual(runs().toSorted(), ['list', 'list', 'whole']);
    const without = await ruleset();

    await using second = await Machine.guest(await host.attach('second', { ports: port(8081) }));
    assert.deepEqual(runs(), ['changes']);
    const inPlace = await ruleset();
    assert.match(inPlace, /tcp \. 8081 : /);
    await second.unplug();
    await host.detach('second');
    assert.deepEqual(runs(), ['changes']);
    assert.equal(await ruleset(), without);

    await touchRules();
    await using again = await Machine.guest(await host.attach('second', { ports: port(8081) }));
    // What it did is looked at twice: ports that it publishes, and whether it drops what guests send.
    assert.deepEqual(runs(), ['list', 'whole', 'list']);
    // A VM has the same address and the same tap each time, and with them the same rules.
    assert.equal(await ruleset(), inPlace);
    await touchRules();
    await again.unplug();
    await host.detach('second');
    assert.deepEqual(runs(), ['whole']);
    assert.equal(await ruleset(), without);
    await first.unplug();
    await host.detach('first');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-112: what another program does to the rules is undone by the next VM', async (t) => {
    const { nft, runs } = observedNft(t);
    await using host = await Host.open(undefined, { nft });
    await using first = await Machine.guest(await host.attach('first', { ports: port(8080) }));
    const { tables } = await leftovers();
    const changes = [['flush', 'ruleset'], ...tables.map((name) => ['flush', ...name.split(' ')])];
    for (const [index, change] of changes.entries()) {
      const before = await ruleset();
      await must('nft', ...change);
      assert.notEqual(await ruleset(), before);
      runs();
      await using other = await Machine.guest(await host.attach(`vm${index}`));
      assert.deepEqual(
        runs().filter((run) => run !== 'list'),
        ['whole'],
      );
      await other.unplug();
      await host.detach(`vm${index}`);
      assert.equal(await ruleset(), before, change.join(' '));
    }
    await first.unplug();
    await host.detach('first');
    assert.deepEqual(await leftovers(), nothing);
  });
});
