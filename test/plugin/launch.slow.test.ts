import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, statSync, symlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { encode } from '@msgpack/msgpack';
import packageJson from '../../package.json' with { type: 'json' };
import { BasePlugin } from '../../src/plugin/gen/base_pb.ts';
import { Driver } from '../../src/plugin/gen/driver_pb.ts';
import { GRPCBroker, GRPCController, GRPCStdio } from '../../src/plugin/gen/go_plugin_pb.ts';
import { Health } from '../../src/plugin/gen/health_pb.ts';
import { handshakeLine } from '../../src/plugin/serve/handshake.ts';
import { version } from '../../src/plugin/serve/version.ts';
import { patient } from '../support/patience.ts';
import { cookie, failureOf, PluginProcess } from '../support/plugin-client.ts';

test('the version is the package’s', () => assert.equal(version, packageJson.version));

test('P-2: without or with a wrong cookie it explains itself on stderr, exits 1 and leaves no socket', async () => {
  for (const env of [{}, { NOMAD_PLUGIN_MAGIC_COOKIE: 'wrong' }]) {
    await using plugin = new PluginProcess({ env });
    assert.deepEqual(await plugin.exit, { code: 1, signal: null });
    assert.deepEqual(plugin.stdout, []);
    assert.match(plugin.stderr.join('\n'), /plugin of the Nomad agent/);
    assert.deepEqual(readdirSync(plugin.tmp), []);
  }
});

test('--version by hand; an unknown argument is an error', async () => {
  await using told = new PluginProcess({ args: ['--version'] });
  assert.equal((await told.exit).code, 0);
  assert.deepEqual(told.stdout, [`nomad-driver-qmp ${version}`]);
  await using odd = new PluginProcess({ args: ['--what'], env: cookie });
  assert.equal((await odd.exit).code, 1);
  assert.match(odd.stderr.join('\n'), /--what/);
});

test('--help by hand prints what the program is and each of its arguments', async () => {
  for (const args of [['--help'], ['-h'], ['--version', '--help']]) {
    await using plugin = new PluginProcess({ args });
    assert.equal((await plugin.exit).code, 0);
    const text = plugin.stdout.join('\n');
    assert.match(text, /^nomad-driver-qmp is a task driver of the Nomad agent/);
    for (const name of ['--driver-name', '--log-file', '--version', '--help', 'plugin_dir']) {
      assert.ok(text.includes(name), name);
    }
    assert.deepEqual(plugin.stderr, []);
  }
});

test('P-3: one handshake line within 2 s, the server already accepting, and nothing after it', async () => {
  const start = performance.now();
  await using plugin = await PluginProcess.serve();
  const client = plugin.client();
  await client.call(Health.method.check, { service: 'plugin' });
  assert.ok(performance.now() - start < patient(2000));
  assert.match(plugin.stdout[0] ?? '', /^1\|2\|unix\|\/[^|]+\|grpc\|$/);
  assert.ok(Buffer.byteLength(plugin.socketPath) <= 107);
  await client.call(BasePlugin.method.pluginInfo, {});
  assert.equal(plugin.stdout.length, 1);
});

test('P-3: a seventh field only for hosts that announce they know it', () => {
  assert.equal(handshakeLine('/a', {}), '1|2|unix|/a|grpc|\n');
  assert.equal(handshakeLine('/a', { PLUGIN_MULTIPLEX_GRPC: 'true' }), '1|2|unix|/a|grpc||false\n');
});

test('P-4: a host that does not speak version 2 is answered 2 all the same', async () => {
  await using plugin = await PluginProcess.serve({ env: { PLUGIN_PROTOCOL_VERSIONS: '1,3' } });
  assert.match(plugin.stdout[0] ?? '', /^1\|2\|/);
});

test('P-1: works through a symlink, with another directory and next to no PATH', async () => {
  await using first = await PluginProcess.serve();
  const link = join(first.tmp, 'plugin.ts');
  symlinkSync(join(import.meta.dirname, '../../bin/nomad-driver-qmp.ts'), link);
  await using plugin = await PluginProcess.serve({
    entry: link,
    cwd: first.tmp,
    env: { PATH: '/nowhere' },
  });
  await plugin.client().call(BasePlugin.method.pluginInfo, {});
});

test('P-5: the socket lies where the host asks, is unique, private, and gone after an orderly exit', async () => {
  await using other = await PluginProcess.serve();
  const dir = join(other.tmp, 'sockets');
  mkdirSync(dir);
  const env = { PLUGIN_UNIX_SOCKET_DIR: dir, PLUGIN_UNIX_SOCKET_GROUP: '4242' };
  const group = process.getuid?.() === 0 ? env : { PLUGIN_UNIX_SOCKET_DIR: dir };
  await using plugin = await PluginProcess.serve({ env: group });
  await using twin = await PluginProcess.serve({ env: { PLUGIN_UNIX_SOCKET_DIR: dir } });
  assert.ok(plugin.socketPath.startsWith(`${dir}/`));
  assert.notEqual(plugin.socketPath, twin.socketPath);
  assert.equal(statSync(dirname(twin.socketPath)).mode & 0o777, 0o700);
  assert.equal(statSync(twin.socketPath).mode & 0o077, 0);
  if (group === env) {
    assert.equal(statSync(plugin.socketPath).gid, 4242);
    assert.equal(statSync(plugin.socketPath).mode & 0o777, 0o660);
  }
  plugin.kill('SIGTERM');
  assert.deepEqual(await plugin.exit, { code: 0, signal: null });
  assert.equal(existsSync(dirname(plugin.socketPath)), false);
});

test('P-5: a TMPDIR that is too long or missing is not used', async () => {
  for (const TMPDIR of [`/tmp/${'x'.repeat(100)}`, '/nowhere/at/all']) {
    await using plugin = await PluginProcess.serve({ env: { TMPDIR } });
    assert.match(plugin.socketPath, /^\/tmp\/qmp-/);
  }
});

test('P-6: a host that wants mutual TLS is refused', async () => {
  await using plugin = new PluginProcess({
    env: { ...cookie, PLUGIN_CLIENT_CERT: '-----BEGIN CERTIFICATE-----' },
  });
  assert.equal((await plugin.exit).code, 1);
  assert.deepEqual(plugin.stdout, []);
  assert.match(plugin.stderr.join('\n'), /PLUGIN_CLIENT_CERT/);
});

test('P-7: three instances at once do not disturb each other', async () => {
  await using a = await PluginProcess.serve();
  await using b = await PluginProcess.serve();
  await using c = await PluginProcess.serve();
  const clients = [a, b, c].map((plugin) => plugin.client());
  for (const client of clients) {
    await client.call(BasePlugin.method.setConfig, { pluginApiVersion: 'v0.1.0' });
  }
  await a.client().call(GRPCController.method.shutdown, {});
  assert.equal((await a.exit).code, 0);
  await clients[1]?.call(BasePlugin.method.pluginInfo, {});
  await clients[2]?.call(BasePlugin.method.pluginInfo, {});
});

test('P-8: SIGINT and SIGHUP are ignored, SIGTERM is an orderly exit', async () => {
  await using plugin = await PluginProcess.serve();
  plugin.kill('SIGINT');
  plugin.kill('SIGHUP');
  await plugin.client().call(BasePlugin.method.pluginInfo, {});
  plugin.kill('SIGTERM');
  assert.deepEqual(await plugin.exit, { code: 0, signal: null });
});

test('P-9: health', async () => {
  await using plugin = await PluginProcess.serve();
  const client = plugin.client();
  for (const service of ['plugin', '']) {
    assert.equal((await client.call(Health.method.check, { service })).status, 1);
  }
  const failure = await failureOf(client.call(Health.method.check, { service: 'other' }));
  assert.equal(failure.code, 5);
});

test('P-10: stdio and broker stay open, a bare connection is tolerated, a second client is served', async () => {
  await using plugin = await PluginProcess.serve();
  const client = plugin.client();
  const stdio = client.stream(GRPCStdio.method.streamStdio, {});
  const broker = client.bidi(GRPCBroker.method.startStream);
  let brokerEnded = false;
  broker.on('end', () => {
    brokerEnded = true;
  });
  broker.on('error', () => {});
  broker.on('data', () => {});
  for (let i = 0; i < 3; i += 1) {
    await new Promise<void>((done) => {
      const probe = connect(plugin.socketPath, () => probe.destroy());
      probe.on('close', () => done());
    });
  }
  await plugin.client().call(BasePlugin.method.pluginInfo, {});
  await new Promise((done) => setTimeout(done, 300));
  assert.equal(stdio.ended, false);
  assert.equal(brokerEnded, false);
  broker.end();
  await plugin.until('end of the broker stream', () => brokerEnded);
  stdio.cancel();
  assert.equal(await stdio.end, 1);
  await plugin.client().call(BasePlugin.method.pluginInfo, {});
});

test('P-11: Shutdown answers and the process is gone within 2 s, streams open or not', async () => {
  await using plugin = await PluginProcess.serve();
  const client = plugin.client();
  const streams = [
    client.stream(GRPCStdio.method.streamStdio, {}),
    client.stream(Driver.method.taskEvents, {}),
    client.stream(Health.method.watch, { service: 'plugin' }),
  ];
  await streams[2]?.until(1);
  const start = performance.now();
  await client.call(GRPCController.method.shutdown, {});
  assert.deepEqual(await plugin.exit, { code: 0, signal: null });
  assert.ok(performance.now() - start < patient(2000));
});

test('P-14 V-1: PluginInfo; --driver-name answers to another name', async () => {
  await using plugin = await PluginProcess.serve();
  const info = await plugin.client().call(BasePlugin.method.pluginInfo, {});
  assert.equal(info.type, 2);
  assert.deepEqual(info.pluginApiVersions, ['v0.1.0']);
  assert.match(info.pluginVersion, /^\d+\.\d+\.\d+$/);
  assert.equal(info.name, 'virt');
  await using renamed = await PluginProcess.serve({ args: ['--driver-name', 'nomad-driver-virt'] });
  const other = await renamed.client().call(BasePlugin.method.pluginInfo, {});
  assert.equal(other.name, 'nomad-driver-virt');
});

test('V-1: one file under two names answers to both', async () => {
  for (const [file, name] of [
    ['/opt/plugins/nomad-driver-virt', 'nomad-driver-virt'],
    ['/opt/plugins/virt', 'virt'],
    ['/opt/plugins/qemu', 'qemu'],
    ['/opt/plugins/anything-else', 'virt'],
  ]) {
    await using plugin = await PluginProcess.serve({ argv0: file ?? '' });
    const info = await plugin.client().call(BasePlugin.method.pluginInfo, {});
    assert.equal(info.name, name, file);
  }
});

test('a mistake in args is the first line that the agent shows', async () => {
  await using plugin = new PluginProcess({ env: cookie, args: ['--driver-nam', 'virt'] });
  assert.equal((await plugin.exit).code, 1);
  assert.match(plugin.stdout[0] ?? '', /'--driver-nam'/);
});

test('a process whose configuration was refused ends, one that has a configuration stays', async () => {
  const { setConfig } = BasePlugin.method;
  const wrong = { msgpackConfig: encode({ log_level: 'loud' }) };
  await using refused = await PluginProcess.serve();
  // The agent gets the reason, and keeps its connection open.
  const client = refused.client();
  assert.match((await failureOf(client.call(setConfig, wrong))).details, /log_level/);
  const answered = performance.now();
  assert.equal((await refused.exit).code, 1);
  const ms = performance.now() - answered;
  assert.ok(ms < patient(300), `${ms} ms`);
  await using serving = await PluginProcess.serve();
  const configured = serving.client();
  await configured.call(setConfig, { msgpackConfig: encode({}) });
  await failureOf(configured.call(setConfig, wrong));
  await delay(500);
  await configured.call(BasePlugin.method.pluginInfo, {});
});

test('P-13: losing both pipes does not end it', async () => {
  await using plugin = await PluginProcess.serve();
  const client = plugin.client();
  plugin.closePipes();
  for (let i = 0; i < 5; i += 1) {
    await client.call(Driver.method.destroyTask, { taskId: 'a/b/00000000' }).catch(() => {});
    await client.call(BasePlugin.method.pluginInfo, {});
  }
});
