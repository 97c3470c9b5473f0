import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { fstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { test } from 'node:test';
import { closeFd, HostError, kill, openTap, spawnDetached, udpSocket, withNetns } from '#host';
import { command, inOwnNetns, Namespace } from '../support/netns.ts';
import { patient } from '../support/patience.ts';

const links = (): string[] =>
  [...readFileSync('/proc/thread-self/net/dev', 'utf8').matchAll(/^\s*(\S+):/gm)].map(
    ([, name]) => name ?? '',
  );
const netns = (): string => readlinkSync('/proc/thread-self/ns/net');

inOwnNetns(import.meta.url, ['ip', 'nsenter'], () => {
  test('a tap lives as long as its descriptor', async () => {
    const { fd, name } = await openTap('nqtap0');
    assert.equal(name, 'nqtap0');
    assert.ok(links().includes('nqtap0'));
    assert.ok(fstatSync(fd).isCharacterDevice());
    // O_CLOEXEC, O_NONBLOCK, O_RDWR; O_LARGEFILE comes along on some architectures.
    assert.match(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'), /^flags:\s+02[01]04002$/m);
    await assert.rejects(openTap('nqtap0'), { name: 'HostError', errno: 'EBUSY' });
    closeFd(fd);
    assert.ok(!links().includes('nqtap0'));
  });

  test('a tap name with %d gets a number', async () => {
    const taps = [await openTap('nq%d'), await openTap('nq%d')];
    assert.deepEqual(
      taps.map(({ name }) => name),
      ['nq0', 'nq1'],
    );
    for (const { fd } of taps) closeFd(fd);
  });

  test('a tap name of 15 bytes comes back whole', async () => {
    const { fd, name } = await openTap('fifteen-bytes-x');
    assert.equal(name, 'fifteen-bytes-x');
    closeFd(fd);
  });

  test('a tap handed to a program goes when the program dies', async () => {
    const { fd } = await openTap('nqtap0');
    const child = await spawnDetached({
      program: '/bin/sleep',
      args: ['60'],
      stdio: ['ignore', 'ignore', 'ignore', fd],
    });
    closeFd(fd);
    assert.ok(links().includes('nqtap0'), 'the program has it now');
    await kill(child.identity, { signal: AbortSignal.timeout(patient(10_000)) });
    assert.ok(!links().includes('nqtap0'));
  });

  test('V-125: what runs in another namespace happens there, and the way home is always taken', async () => {
    await using there = await Namespace.open();
    const home = netns();
    const [making] = withNetns(there.path, () => {
      assert.notEqual(netns(), home);
      return [openTap('nqthere')] as const;
    });
    assert.equal(netns(), home);
    const made = await making;
    assert.ok(!links().includes('nqthere'));
    assert.match(await there.ip('link', 'show', 'nqthere'), /nqthere/);
    closeFd(made.fd);
    const failure = new Error('inside');
    assert.throws(
      () =>
        withNetns(there.path, () => {
          throw failure;
        }),
      (error) => error === failure,
    );
    assert.equal(netns(), home);
  });

  test('asynchronous work begun in another namespace is refused, and pool threads stay at home', async () => {
    await using there = await Namespace.open();
    assert.throws(() => withNetns(there.path, () => Promise.resolve()), /synchronous/);
    let pending: Promise<unknown> | undefined;
    withNetns(there.path, () => {
      pending = stat('/');
      return undefined;
    });
    await pending;
    const home = readlinkSync('/proc/self/ns/net');
    for (const tid of readdirSync('/proc/self/task')) {
      assert.equal(readlinkSync(`/proc/self/task/${tid}/ns/net`), home);
    }
  });

  test('a namespace that is none is an error, and no thread moves', () => {
    const home = netns();
    assert.throws(() => withNetns('/proc/self/ns/missing', () => 1), HostError);
    assert.throws(() => withNetns('/dev/null', () => 1), { name: 'HostError', errno: 'EINVAL' });
    assert.equal(netns(), home);
  });

  test('no descriptor is left by any of it', async () => {
    const before = readdirSync('/proc/self/fd').length;
    await using there = await Namespace.open();
    for (let round = 0; round < 5; round += 1) withNetns(there.path, () => undefined);
    await assert.rejects(openTap('lo'), HostError);
    const after = readdirSync('/proc/self/fd').length;
    assert.ok(after <= before + 1, `${before} then ${after}`);
  });

  test('a datagram socket tied to a link hears broadcasts of that link only', async () => {
    await command('ip', 'link', 'add', 'nqa', 'type', 'veth', 'peer', 'name', 'nqb');
    await using there = await Namespace.open();
    await command('ip', 'link', 'set', 'nqb', 'netns', String(there.pid));
    await command('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'nqa');
    await command('ip', 'link', 'set', 'nqa', 'up');
    await there.ip('address', 'add', '192.0.2.2/24', 'dev', 'nqb');
    await there.ip('link', 'set', 'nqb', 'up');
    const fd = udpSocket({ device: 'nqa', address: '0.0.0.0', port: 6767, broadcast: true });
    const socket = createSocket('udp4');
    socket.bind({ fd });
    const heard = once(socket, 'message');
    const from = withNetns(there.path, () =>
      udpSocket({ device: 'nqb', address: '192.0.2.2', port: 6868, broadcast: true }),
    );
    const sender = createSocket('udp4');
    sender.bind({ fd: from });
    sender.send('discover', 6767, '255.255.255.255');
    const [message, peer] = await heard;
    assert.equal(String(message), 'discover');
    assert.deepEqual([peer.address, peer.port], ['192.0.2.2', 6868]);
    sender.close();
    socket.close();
    assert.throws(
      () => udpSocket({ device: 'nqnone', address: '0.0.0.0', port: 0, broadcast: false }),
      { name: 'HostError', errno: 'ENODEV' },
    );
    await command('ip', 'link', 'delete', 'nqa');
  });
});
