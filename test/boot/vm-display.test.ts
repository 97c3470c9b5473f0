import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import {
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import type { DisplaySpec } from '#spec';
import { askVm } from '#vm';
import { documentedLine } from '../support/documented.ts';
import { reachOf } from '../support/foreign-user.ts';
import { until } from '../support/live-vm.ts';
import { Namespace } from '../support/netns.ts';
import { colours, RfbViewer } from '../support/rfb.ts';
import { tmpDir } from '../support/tmp.ts';
import { booted, canRunVms, soon, VmGround } from '../support/vm.ts';

const program = join(import.meta.dirname, '../../bin/nomad-driver-qmp.ts');

const task = { alloc: '6b8e3a5e', task: 'task' };

/** `nomad-driver-qmp screenshot` as an operator runs it. */
async function runScreenshot({ options }: VmGround, path: string): Promise<string> {
  const words = ['screenshot', `${task.alloc}/${task.task}`, path, '--data-dir', options.dataDir];
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...words]);
  return stdout;
}

/** What it asks the plugin for. */
function askScreenshot({ options: { dataDir } }: VmGround, path: string): Promise<string> {
  const request = { command: 'screenshot', path } as const;
  return askVm({ dataDir, task, request, onProgress: () => {} }, soon());
}

/** Runs a command of a document until the test ends. */
function run(t: TestContext, line: string): void {
  const [command = '', ...words] = line.split(' ');
  const child = spawn(command, words, { stdio: 'ignore' });
  t.after(() => child.kill());
}

/** A port of the loopback that is free. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : assert.fail();
}

const onPort = (hostPort: number): Pick<NonNullable<DisplaySpec['vnc']>, 'listen'> => ({
  listen: [{ label: 'vnc', hostIp: '127.0.0.1', hostPort }],
});

/** A PNG that QEMU wrote: its width and height. */
function sizeOfPng(data: Uint8Array): readonly [number, number] {
  const png = Buffer.from(data);
  assert.equal(png.subarray(1, 4).toString(), 'PNG');
  assert.equal(png.subarray(-8, -4).toString(), 'IEND', 'it is whole');
  return [png.readUInt32BE(16), png.readUInt32BE(20)];
}

for (const video of ['virtio', 'std'] as const) {
  test(`V-83: the screen of a ${video} card is seen at a socket that only root reaches`, async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open();
    const display = { video, vnc: { listen: [] } };
    const domain = await ground.virtualizer().createDomain(ground.spec(0, { display }), soon());
    await booted(domain);
    const path = domain.attributes['vnc.socket'] ?? assert.fail('no socket');
    assert.equal(path, ground.paths().vnc);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(
      reachOf(65_534, [path]).filter((it) => it.startsWith('connect')),
      [],
    );
    using viewer = await RfbViewer.connect({ path }, soon());
    const frame = await viewer.frame();
    assert.ok(colours(frame) > 1, 'the firmware has written something on the screen');
    const { format, data } = await domain.screenshot(soon());
    assert.equal(format, 'png');
    assert.deepEqual(sizeOfPng(data), [frame.width, frame.height]);
    assert.equal((await domain.screenshot(soon())).format, 'png', 'as often as it is wanted');

    await t.test(
      'V-83: an operator has the screen as a new file, and never as another one',
      async (t) => {
        const dir = tmpDir(t);
        const file = join(dir, 'screen.png');
        assert.equal(await runScreenshot(ground, file), `the screen was written to ${file}\n`);
        assert.deepEqual(sizeOfPng(readFileSync(file)), [frame.width, frame.height]);
        assert.equal(statSync(file).mode & 0o777, 0o600);
        const [link, target] = [join(dir, 'link.png'), join(dir, 'target.png')];
        symlinkSync(target, link);
        writeFileSync(join(dir, 'kept.png'), 'kept');
        for (const name of ['screen.png', 'link.png', 'kept.png']) {
          await assert.rejects(askScreenshot(ground, join(dir, name)), /\.png exists already/);
        }
        const own = join(ground.options.dataDir, 'screen.png');
        await assert.rejects(askScreenshot(ground, own), /which is the driver's own/);
        assert.ok(!existsSync(target) && !existsSync(own));
        assert.equal(readFileSync(join(dir, 'kept.png'), 'utf8'), 'kept');
        assert.deepEqual(readdirSync(dir).toSorted(), ['kept.png', 'link.png', 'screen.png']);
      },
    );

    await t.test('V-83: the command of docs/guests.md brings a viewer to the socket', async (t) => {
      run(t, documentedLine('docs/guests.md', '/vnc.sock', dirname(path)));
      const place = { host: '127.0.0.1', port: 5900 };
      using it = await until(
        () => RfbViewer.connect(place, soon()).catch(() => undefined),
        (viewer) => viewer !== undefined,
        20_000,
      );
      assert.equal((await it?.frame())?.width, frame.width);
    });
  });
}

test('V-83: with a password no client is let in without it, at the port, in the network of a group and at the socket', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const port = await freePort();
  await using group = await Namespace.open();
  const inGroup = { netns: group.path, port: 5901 };
  const own = { netns: group.path, port: 5902, address: '127.0.0.1' };
  const listen = [
    ...onPort(port).listen,
    // The host's ports lead there already.
    { label: 'group', hostIp: '127.0.0.1', hostPort: port, inGroup },
    { label: 'group', hostIp: '127.0.0.2', hostPort: port, inGroup },
    { label: 'own', hostIp: '127.0.0.1', hostPort: 5902, inGroup: own },
  ];
  const display = { video: 'virtio', vnc: { password: 'hush-hus', listen } } as const;
  const domain = await ground.virtualizer().createDomain(ground.spec(0, { display }), soon());
  await booted(domain);
  const { pid } = domain.record;
  const addresses = ['127.0.0.1', '127.0.0.1', '127.0.0.2'].map((host) => `${host}:${port}`);
  assert.equal(domain.attributes['vnc.address'], [...addresses, '127.0.0.1:5902'].join(' '));
  assert.deepEqual(domain.publishedPorts, ['vnc', 'group', 'own']);
  // Address and port in the order of bytes that the kernel shows them in: every address, and 127.0.0.1.
  const sockets = await group.run('cat', '/proc/net/tcp');
  const listening = [...sockets.matchAll(/ (\w{8}:\w{4}) 00000000:0000 0A /g)].map((it) => it[1]);
  assert.deepEqual(listening.toSorted(), ['00000000:170D', '0100007F:170E']);
  const greeting =
    "require('node:net').connect(5901, '127.0.0.1').once('data', (text) => process.exit(console.log(String(text))))";
  assert.equal(await group.run(process.execPath, '-e', greeting), 'RFB 003.008\n\n');
  assert.doesNotMatch(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), /hush/);
  assert.doesNotMatch(readFileSync(ground.paths().record, 'utf8'), /hush/);
  assert.doesNotMatch(ground.lines.join('\n'), /hush/);
  for (const place of [{ host: '127.0.0.1', port }, { path: ground.paths().vnc }]) {
    await assert.rejects(RfbViewer.connect(place, { ...soon(), password: 'hush-hut' }), /refused/);
    await assert.rejects(RfbViewer.connect(place, soon()), /the server offers the ways 2/);
    using viewer = await RfbViewer.connect(place, { ...soon(), password: 'hush-hus' });
    assert.ok(colours(await viewer.frame()) > 1);
  }
});

test('V-83 V-96: the display is served while there is no plugin, and after the next adopted the VM', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const port = await freePort();
  const display = { video: 'std', vnc: onPort(port) } as const;
  const spec = ground.spec(0, { display });
  const starter = await ground.starter(spec);
  const record = await starter.create();
  await starter.kill();
  const place = { host: '127.0.0.1', port };
  using viewer = await RfbViewer.connect(place, soon());
  await viewer.frame();
  const domain = await ground.virtualizer().recoverDomain(record, spec, soon());
  assert.ok(domain !== undefined);
  assert.equal(domain.attributes['vnc.address'], `127.0.0.1:${port}`);
  assert.deepEqual(domain.publishedPorts, ['vnc']);
  assert.equal((await domain.screenshot(soon())).format, 'png');
  using second = await RfbViewer.connect({ path: ground.paths().vnc }, soon());
  await second.frame();
});

test('V-83: a port that is taken ends the start with its key, and leaves nothing', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const display = { video: 'std', vnc: onPort(address.port) } as const;
  await assert.rejects(
    ground.virtualizer().createDomain(ground.spec(0, { display }), soon()),
    /^VmError: display\.vnc\.port: binding a socket to 127\.0\.0\.1 port \d+: EADDRINUSE$/,
  );
  server.close();
  assert.deepEqual(await ground.leftovers(), []);
});

test('without a display there is none, and nothing to take a screenshot of', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const domain = await ground.virtualizer().createDomain(ground.spec(0), soon());
  await assert.rejects(
    domain.screenshot(soon()),
    /there is no screen to show; has the job a block/,
  );
  const dir = tmpDir(t);
  const asked = askScreenshot(ground, join(dir, 'screen.png'));
  await assert.rejects(asked, /there is no screen to show; has the job a block display \{ \}/);
  assert.deepEqual(readdirSync(dir), []);
  assert.equal(domain.attributes['vnc.socket'], undefined);
  assert.doesNotMatch(readFileSync(`/proc/${domain.record.pid}/cmdline`, 'utf8'), /vnc|vga|usb/i);
});
