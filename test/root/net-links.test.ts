import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  addAddress,
  changeLink,
  createLink,
  defaultRoute,
  deleteLink,
  deleteNeighbour,
  findLink,
  type Link,
  listAddresses,
  listLinks,
  listNeighbours,
  NetlinkError,
  NetlinkSocket,
} from '#netlink';
import { listRoutes } from '../../src/netlink/address.ts';
import { must } from '../support/guest.ts';
import { command, inOwnNetns, Namespace } from '../support/netns.ts';
import { patient } from '../support/patience.ts';

const waiting = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(patient(10_000)) });

async function link(netlink: NetlinkSocket, name: string): Promise<Link> {
  const found = await findLink(netlink, name, waiting());
  assert.ok(found, `no link ${name}`);
  return found;
}

async function cable(one: string, other: string): Promise<void> {
  await must('ip', 'link', 'add', one, 'type', 'veth', 'peer', 'name', other);
}

inOwnNetns(import.meta.url, ['ip', 'nsenter'], () => {
  test('a bridge is made with its settings, changed, listed and deleted', async () => {
    await using netlink = await NetlinkSocket.open();
    const address = '52:54:00:01:02:03';
    const kind = { kind: 'bridge', stp: false, forwardDelayMs: 0 } as const;
    await createLink(netlink, { ...kind, name: 'br0', address, mtu: 1400 }, waiting());
    const made = await link(netlink, 'br0');
    assert.deepEqual(
      { ...made, index: 0 },
      {
        index: 0,
        name: 'br0',
        kind: 'bridge',
        address,
        mtu: 1400,
        up: false,
        master: undefined,
        alias: '',
        linkLocalLearn: true,
      },
    );
    await changeLink(netlink, made, { up: true, alias: 'what it is for' }, waiting());
    const changed = await link(netlink, 'br0');
    assert.deepEqual([changed.up, changed.alias], [true, 'what it is for']);
    const names = (await listLinks(netlink, waiting())).map(({ name }) => name);
    assert.deepEqual(names.toSorted(), ['br0', 'lo']);
    assert.equal(await deleteLink(netlink, made, waiting()), true);
    assert.equal(await deleteLink(netlink, made, waiting()), false);
    assert.equal(await findLink(netlink, 'br0', waiting()), undefined);
  });

  test('bridge settings other than the kernel defaults come back as they were set', async () => {
    await using netlink = await NetlinkSocket.open();
    const kind = { kind: 'bridge', stp: true, forwardDelayMs: 4000 } as const;
    await createLink(netlink, { ...kind, name: 'br0' }, waiting());
    const made = await link(netlink, 'br0');
    const settings = async () => (await command('ip', '-d', 'link', 'show', 'br0')).output;
    assert.match(await settings(), /forward_delay 400 .*stp_state 1 .*no_linklocal_learn 0 /);
    await changeLink(netlink, made, { bridge: { linkLocalLearn: false } }, waiting());
    assert.match(await settings(), /no_linklocal_learn 1 /);
    await deleteLink(netlink, made, waiting());
  });

  test('veth: both ends, one of them moved to another namespace, the other in a bridge', async () => {
    await using netlink = await NetlinkSocket.open();
    await using other = await Namespace.open();
    const bridge = { kind: 'bridge', stp: false, forwardDelayMs: 0, name: 'br0' } as const;
    await createLink(netlink, bridge, waiting());
    await cable('v0', 'v1');
    const master = (await link(netlink, 'br0')).index;
    const port = { hairpin: true };
    await changeLink(netlink, await link(netlink, 'v0'), { master }, waiting());
    await changeLink(netlink, await link(netlink, 'v0'), { port, up: true }, waiting());
    assert.equal((await link(netlink, 'v0')).master, master);
    const said = (await command('ip', '-d', 'link', 'show', 'v0')).output;
    assert.match(said, /hairpin on/);
    await changeLink(netlink, await link(netlink, 'v1'), { netnsPid: other.pid }, waiting());
    assert.equal(await findLink(netlink, 'v1', waiting()), undefined);
    await using there = await NetlinkSocket.open({ netns: other.path });
    assert.equal((await link(there, 'v1')).kind, 'veth');
    await changeLink(netlink, await link(netlink, 'v0'), { master: 0 }, waiting());
    assert.equal((await link(netlink, 'v0')).master, undefined);
    await deleteLink(netlink, await link(netlink, 'v0'), waiting());
    await deleteLink(netlink, await link(netlink, 'br0'), waiting());
  });

  test('macvtap in each of its modes', async () => {
    await using netlink = await NetlinkSocket.open();
    await cable('v0', 'v1');
    const lowerIndex = (await link(netlink, 'v0')).index;
    for (const mode of ['bridge', 'private', 'vepa', 'passthru'] as const) {
      await createLink(netlink, { kind: 'macvtap', name: 'm0', lowerIndex, mode }, waiting());
      const said = (await command('ip', '-d', 'link', 'show', 'm0')).output;
      assert.match(said, new RegExp(`macvtap mode ${mode}`));
      await deleteLink(netlink, await link(netlink, 'm0'), waiting());
    }
    await deleteLink(netlink, await link(netlink, 'v0'), waiting());
  });

  test('addresses, routes and neighbours', async () => {
    await using netlink = await NetlinkSocket.open();
    await cable('v0', 'v1');
    const v0 = await link(netlink, 'v0');
    await changeLink(netlink, v0, { up: true }, waiting());
    const own = { linkIndex: v0.index, address: '192.0.2.2', prefix: 24 };
    await addAddress(netlink, own, waiting());
    await assert.rejects(addAddress(netlink, own, waiting()), { errno: 'EEXIST' });
    assert.deepEqual(await listAddresses(netlink, waiting()), [own]);
    const said = (await command('ip', 'addr', 'show', 'v0')).output;
    assert.match(said, /inet 192\.0\.2\.2\/24 brd 192\.0\.2\.255 scope global v0/);
    assert.equal(await defaultRoute(netlink, waiting()), undefined);
    await command('ip', 'route', 'add', 'default', 'via', '192.0.2.9', 'metric', '50');
    await command('ip', 'route', 'add', 'default', 'via', '192.0.2.1', 'metric', '10');
    const best = { prefix: 0, destination: '0.0.0.0', linkIndex: v0.index, metric: 10 };
    assert.deepEqual(await defaultRoute(netlink, waiting()), best);
    const prefixes = (await listRoutes(netlink, waiting())).map(({ prefix }) => prefix);
    assert.deepEqual(prefixes.toSorted(), [0, 0, 24]);
    const mac = '52:54:00:00:00:07';
    await command('ip', 'neigh', 'add', '192.0.2.7', 'lladdr', mac, 'dev', 'v0');
    const neighbours = await listNeighbours(netlink, waiting());
    const neighbour = { linkIndex: v0.index, address: '192.0.2.7', mac };
    assert.deepEqual(neighbours, [neighbour]);
    await deleteNeighbour(netlink, neighbour, waiting());
    assert.deepEqual(await listNeighbours(netlink, waiting()), []);
    await deleteLink(netlink, v0, waiting());
  });

  test('errors carry the name of their errno and what was being done', async () => {
    await using netlink = await NetlinkSocket.open();
    const bridge = { kind: 'bridge', stp: false, forwardDelayMs: 0, name: 'br0' } as const;
    await createLink(netlink, bridge, waiting());
    await assert.rejects(createLink(netlink, bridge, waiting()), (error) => {
      assert.ok(error instanceof NetlinkError);
      assert.equal(error.errno, 'EEXIST');
      assert.equal(error.message, 'create bridge br0: EEXIST');
      return true;
    });
    const gone = { index: 4711, name: 'gone' };
    await assert.rejects(changeLink(netlink, gone, { up: true }, waiting()), { errno: 'ENODEV' });
    await deleteLink(netlink, await link(netlink, 'br0'), waiting());
  });

  test('many dumps at once on one socket all answer', async () => {
    await using netlink = await NetlinkSocket.open();
    const lists = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        index % 2 === 0 ? listLinks(netlink, waiting()) : listRoutes(netlink, waiting()),
      ),
    );
    assert.equal(lists.filter((list) => list.length === 1).length, 20);
  });

  test('closing settles what is pending and refuses what comes after', async () => {
    const netlink = await NetlinkSocket.open();
    const pending = [listLinks(netlink, waiting()), listLinks(netlink, waiting())];
    const outcomes = Promise.allSettled(pending);
    await Promise.resolve();
    await netlink[Symbol.asyncDispose]();
    for (const outcome of await outcomes) {
      assert.equal(outcome.status, 'rejected');
      assert.match(outcome.reason.message, /netlink socket (is|was) closed/);
    }
    await assert.rejects(listLinks(netlink, waiting()), {
      name: 'NetlinkError',
      message: /netlink socket is closed/,
    });
    await netlink[Symbol.asyncDispose]();
  });

  test('giving up leaves the socket usable for the next', async () => {
    await using netlink = await NetlinkSocket.open();
    const controller = new AbortController();
    const abandoned = listLinks(netlink, { signal: controller.signal });
    controller.abort(new Error('no longer wanted'));
    await assert.rejects(abandoned, { message: 'no longer wanted' });
    assert.equal((await listLinks(netlink, waiting())).length, 1);
  });

  test('a message that is longer than the socket expects is read whole, alone and in a list', async () => {
    await using netlink = await NetlinkSocket.open();
    await cable('v0', 'v1');
    // 128 bytes each.
    const names = Array.from({ length: 300 }, (_, at) => `${at}-`.padEnd(124, 'x'));
    const more = names.flatMap((name) => ['altname', name]);
    await must('ip', 'link', 'property', 'add', 'dev', 'v0', ...more);
    assert.equal((await link(netlink, 'v0')).name, 'v0');
    await using other = await NetlinkSocket.open();
    const listed = (await listLinks(other, waiting())).map(({ name }) => name);
    assert.deepEqual(listed.toSorted(), ['lo', 'v0', 'v1']);
    await deleteLink(netlink, await link(netlink, 'v0'), waiting());
  });

  test('two hundred links, more than one datagram holds, are listed whole', async () => {
    await using netlink = await NetlinkSocket.open();
    for (let pair = 0; pair < 100; pair++) {
      await cable(`a${pair}`, `b${pair}`);
    }
    assert.equal((await listLinks(netlink, waiting())).length, 201);
  });
});
