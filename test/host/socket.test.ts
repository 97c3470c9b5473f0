import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readlinkSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { closeFd, connectUnix, listenTcp, listenUnix, openTap, udpSocket } from '#host';
import { tmpDir } from '../support/tmp.ts';

test('a listener takes connections, and only its owner may connect', async (t) => {
  const path = join(tmpDir(t), 'socket');
  const fd = listenUnix(path);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.match(readlinkSync(`/proc/self/fd/${fd}`), /^socket:/);
  const server = createServer((socket) => socket.end('hello'));
  server.listen({ fd });
  const client = connect(path);
  const [chunk] = await once(client, 'data');
  assert.equal(String(chunk), 'hello');
  client.destroy();
  server.close();
  await once(server, 'close');
});

test('connecting works before anyone accepts', (t) => {
  const path = join(tmpDir(t), 'socket');
  const listener = listenUnix(path);
  const connection = connectUnix(path);
  closeFd(connection);
  closeFd(listener);
  assert.throws(() => connectUnix(path), { name: 'HostError', errno: 'ECONNREFUSED' });
});

test('a socket path has up to 107 bytes', (t) => {
  const dir = tmpDir(t);
  const longest = join(dir, 'x'.repeat(107 - dir.length - 1));
  closeFd(listenUnix(longest));
  assert.ok(statSync(longest).isSocket());
  // In bytes: é has two of them.
  for (const path of [`${longest}x`, `${longest.slice(0, -1)}é`, '', `${dir}/a\0b`]) {
    assert.throws(() => listenUnix(path), { name: 'HostError', errno: 'ENAMETOOLONG' });
  }
});

test('what is at the path already is not replaced', (t) => {
  const path = join(tmpDir(t), 'socket');
  writeFileSync(path, 'mine');
  assert.throws(() => listenUnix(path), { name: 'HostError', errno: 'EADDRINUSE' });
  assert.equal(statSync(path).size, 4);
});

test('a datagram socket is bound, and Node takes it over', async () => {
  const fd = udpSocket({ address: '127.0.0.1', port: 0, broadcast: true });
  const socket = createSocket('udp4');
  // For a descriptor Node says 'listening' before bind returns.
  const listening = once(socket, 'listening');
  socket.bind({ fd });
  await listening;
  const { address, port } = socket.address();
  assert.equal(address, '127.0.0.1');
  const received = once(socket, 'message');
  const sender = createSocket('udp4');
  sender.send('ping', port, address);
  const [message] = await received;
  assert.equal(String(message), 'ping');
  sender.close();
  socket.close();
});

test('a datagram socket refuses what it cannot have', () => {
  const options = { address: '127.0.0.1', port: 0, broadcast: false };
  assert.throws(() => udpSocket({ ...options, address: 'host' }), { name: 'HostError' });
  assert.throws(() => udpSocket({ ...options, address: '203.0.113.1' }), {
    name: 'HostError',
    errno: 'EADDRNOTAVAIL',
  });
});

test('a tap name that no link can have is refused before the kernel is asked', async () => {
  for (const name of ['', 'sixteen-bytes-xx', 'a\0b']) {
    await assert.rejects(openTap(name), { name: 'HostError' });
  }
});

for (const address of ['127.0.0.1', '::1', '0:0::1', '::ffff:127.0.0.1']) {
  test(`a TCP listener takes connections at ${address}, which no other then gets`, async () => {
    const fd = listenTcp(address, 0);
    const server = createServer((socket) => socket.end('hello'));
    server.listen({ fd });
    await once(server, 'listening');
    const bound = server.address();
    assert.ok(typeof bound === 'object' && bound !== null);
    assert.throws(() => listenTcp(address, bound.port), { name: 'HostError', errno: 'EADDRINUSE' });
    const client = connect({ host: address, port: bound.port });
    const [chunk] = await once(client, 'data');
    assert.equal(String(chunk), 'hello');
    client.destroy();
    server.close();
    await once(server, 'close');
  });
}

test('what is no IP address is not listened on', () => {
  for (const address of ['', 'localhost', '1.2.3', 'fe80::1%lo', '::1]@x']) {
    assert.throws(() => listenTcp(address, 0), /not an IP address/);
  }
});
