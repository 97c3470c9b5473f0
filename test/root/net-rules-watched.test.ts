import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closeFd } from '#host';
import { must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, rules, type TestNic, waiting } from '../support/networks.ts';

const ports = [8080, 8081].map((hostPort) => ({
  label: `p${hostPort}`,
  hostIp: '',
  hostPort,
  guestPort: 80,
}));

interface Rule {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly handle: number;
}

/** The rules of the driver's tables; the kernel gives each a number of its own. */
async function ownRules(): Promise<readonly Rule[]> {
  const { nftables } = JSON.parse(await must('nft', '-j', 'list', 'ruleset'));
  return nftables.flatMap(({ rule }: { rule?: Rule }) =>
    rule !== undefined && /driver_qmp/.test(rule.table) ? [rule] : [],
  );
}

/** The words that delete a rule of a chain that has others as well. */
async function deletionIn(family: string, table: string): Promise<string[]> {
  const all = (await ownRules()).filter((rule) => rule.family === family && rule.table === table);
  const own = all.find(({ chain }) => all.filter((rule) => rule.chain === chain).length > 1);
  assert.ok(own !== undefined, `no such chain in ${family} ${table}`);
  return ['delete', 'rule', family, table, own.chain, 'handle', String(own.handle)];
}

/** Its name is that of the table for IP, too. */
async function bridgeTable(): Promise<string> {
  const rule = (await ownRules()).find(({ family }) => family === 'bridge');
  return rule?.table ?? assert.fail('no rules of frames');
}

/** A change of rules by another program, which leaves none. */
async function touchRules(): Promise<void> {
  await must('nft', 'add', 'table', 'ip', 'other');
  await must('nft', 'delete', 'table', 'ip', 'other');
}

const putBack = 'Firewall rules were gone and were put back';

async function end(host: Host, nics: Readonly<Record<string, TestNic>>): Promise<void> {
  for (const [vm, { tapFd }] of Object.entries(nics)) {
    closeFd(tapFd);
    await host.detach(vm);
  }
  assert.deepEqual(await leftovers(), nothing);
}

inOwnNetns(import.meta.url, ['ip', 'nft'], () => {
  test('V-111: a single rule or element that another program deletes comes back, with an event', async () => {
    await using host = await Host.open();
    const web = await host.attach('web', { ports });
    await host.networks.init(waiting());
    const before = await rules();
    const table = await bridgeTable();
    const damages: readonly (() => Promise<string[]>)[] = [
      () => deletionIn('bridge', table),
      () => deletionIn('inet', table),
      () => deletionIn('inet', `${table}_tracked`),
      async () => ['delete', 'element', 'inet', table, 'published_everywhere', '{ tcp . 8081 }'],
      async () => ['add', 'rule', 'inet', table, 'arriving', 'accept'],
      async () => {
        const all = await ownRules();
        const limit = all.find(({ chain, table: its }) => /_tracked$/.test(its) && chain === 'own');
        const at = ['inet', `${table}_tracked`, 'own', 'handle', String(limit?.handle)];
        return ['replace', 'rule', ...at, 'accept'];
      },
      async () => ['delete', 'element', 'inet', `${table}_tracked`, 'guests', `{ ${web.ip} }`],
    ];
    for (const damage of damages) {
      const words = await damage();
      await must('nft', ...words);
      await host.networks.init(waiting());
      assert.equal(await rules(), before, words.join(' '));
      assert.deepEqual(host.events.splice(0), [`web: ${putBack}`], words.join(' '));
    }
    await host.networks.init(waiting());
    assert.deepEqual(host.events, []);
    await end(host, { web });
  });

  test('V-111: other programs change their own rules without a new load of ours', async () => {
    await using host = await Host.open();
    const web = await host.attach('web', { ports });
    await host.networks.init(waiting());
    const before = await ownRules();
    for (const _ of [1, 2]) {
      await touchRules();
      await host.networks.init(waiting());
      assert.deepEqual(await ownRules(), before);
    }
    // What follows is known to be a change of rules that are whole.
    const db = await host.attach('db');
    const known = new Set(before.map((rule) => JSON.stringify(rule)));
    const kept = (await ownRules()).filter((rule) => known.has(JSON.stringify(rule)));
    assert.ok(kept.length > 0);
    assert.deepEqual(host.events, []);
    await end(host, { web, db });
  });

  test('V-111: a rule that was deleted right after a start, before any look, comes back', async () => {
    await using host = await Host.open();
    const web = await host.attach('web', { ports });
    const before = await rules();
    await must('nft', ...(await deletionIn('bridge', await bridgeTable())));
    for (const _ of ['put back', 'whole']) await host.networks.init(waiting());
    assert.equal(await rules(), before);
    assert.deepEqual(host.events, [`web: ${putBack}`]);
    await touchRules();
    const db = await host.attach('db');
    await touchRules();
    await host.networks.init(waiting());
    assert.deepEqual(host.events, [`web: ${putBack}`], 'nothing was missing');
    await end(host, { web, db });
  });

  test('V-111: of two plugins with one data_dir, each with its own limits, none takes the rules of the other for damage', async () => {
    await using host = await Host.open(undefined, { maxConnections: 1000 });
    await using other = host.again(undefined, { maxConnections: 2000 });
    const web = await host.attach('web', { ports });
    for (const each of [host, other]) await each.networks.init(waiting());
    const db = await other.attach('db');
    const all = await rules();
    for (const each of [host, other, host, other]) await each.networks.init(waiting());
    closeFd(db.tapFd);
    await other.detach('db');
    for (const each of [host, other, host]) await each.networks.init(waiting());
    assert.deepEqual([...host.events, ...other.events], []);
    assert.notEqual(await rules(), all);
    await must('nft', ...(await deletionIn('bridge', await bridgeTable())));
    for (const each of [host, other]) await each.networks.init(waiting());
    assert.deepEqual([...host.events, ...other.events], [`web: ${putBack}`]);
    await end(host, { web });
  });
});
