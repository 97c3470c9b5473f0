import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { before, test } from 'node:test';
import { build } from '../../scripts/build.ts';
import { Driver } from '../../src/plugin/gen/driver_pb.ts';
import { version } from '../../src/plugin/serve/version.ts';
import { freshId, task } from '../plugin/requests.ts';
import { imageOf } from '../support/disks.ts';
import { patient } from '../support/patience.ts';
import { failureOf, PluginProcess } from '../support/plugin-client.ts';
import { configure, sectorTask } from '../support/sector-task.ts';
import { tmpDir } from '../support/tmp.ts';
import { canRunVms, VmGround } from '../support/vm.ts';

// What Nomad sets, and nothing else: no node, no node_modules, no HOME.
const environment = {
  PATH: '/nonexistent',
  NOMAD_PLUGIN_MAGIC_COOKIE: 'e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255',
  PLUGIN_PROTOCOL_VERSIONS: '2',
};

let executable = '';
before(async () => {
  executable = await build();
});

test('P-1: one file that needs nothing beside it', (t) => {
  const output = execFileSync(executable, ['--version'], {
    cwd: tmpDir(t),
    env: { PATH: '/nonexistent' },
    encoding: 'utf8',
  });
  assert.equal(output, `nomad-driver-qmp ${version}\n`);
});

test('P-1: it shares only the C and C++ libraries with the host', () => {
  const output = execFileSync('ldd', [executable], { encoding: 'utf8' });
  const libraries = [...output.matchAll(/^\t(?:\S*\/)?([\w+-]+)\.so/gm)].map((match) => match[1]);
  const allowed = /^(libc|libdl|libgcc_s|libm|libpthread|libstdc\+\+|linux-vdso|ld-linux-.*)$/;
  assert.ok(libraries.length > 3, output);
  assert.deepEqual(
    libraries.filter((name) => !allowed.test(name ?? '')),
    [],
  );
});

test('P-2: started by a person, it reports that on stderr and nothing on stdout', (t) => {
  const outcome = spawnSync(executable, [], {
    cwd: tmpDir(t),
    env: { PATH: '/nonexistent' },
    encoding: 'utf8',
  });
  assert.equal(outcome.status, 1);
  assert.equal(outcome.stdout, '');
  assert.match(outcome.stderr, /plugin/);
});

test('P-3: the handshake comes within two seconds, its socket accepts, SIGTERM ends it without a trace', async (t) => {
  const temporary = tmpDir(t);
  const begin = performance.now();
  const child = spawn(executable, [], {
    cwd: '/',
    env: { ...environment, TMPDIR: temporary },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const exit = new Promise((resolve) => child.on('exit', resolve));
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line);
    const tookMs = performance.now() - begin;
    t.diagnostic(`handshake after ${tookMs.toFixed(0)} ms`);
    assert.ok(tookMs < patient(2000), `it took ${tookMs} ms`);
    const [core, app, network, path = '', protocol, ...rest] = line.split('|');
    assert.deepEqual([core, app, network, protocol, rest], ['1', '2', 'unix', 'grpc', ['']]);
    assert.ok(path.startsWith(temporary) && Buffer.byteLength(path) <= 107, path);
    await new Promise((resolve, reject) => {
      const socket = connect(path, () => resolve(socket.destroy()));
      socket.on('error', reject);
    });
    child.kill('SIGTERM');
  }
  assert.equal(await exit, 0);
  assert.equal(lines.length, 1);
  assert.doesNotMatch(stderr, /warning/i);
  assert.deepEqual(readdirSync(temporary), []);
});

/** The executable as an agent starts and configures it, with VMs in the directories of a ground. */
async function serving(ground: VmGround) {
  const plugin = await PluginProcess.serve({ program: executable, env: { TMPDIR: tmpdir() } });
  const client = plugin.client();
  await configure(client, ground);
  return { plugin, client };
}

/** Large enough for a thread; what is wrong with it is on its second line. */
const wrongUserData = `#cloud-config\n- a\n${'- b\n'.repeat(4096)}`;
const wrongInWords = /user_data: line 2: cloud-config must be a mapping/;

test('V-61: user data is checked in a thread, inside the executable as from sources', async () => {
  await using ground = VmGround.open();
  const { plugin, client } = await serving(ground);
  await using _plugin = plugin;
  const config = { image: 'none.img', primary_disk_size: 2000, use_thin_copy: true };
  const request = task({ id: freshId(), config: { ...config, user_data: wrongUserData } });
  const failure = await failureOf(client.call(Driver.method.startTask, { task: request }));
  assert.match(failure.details, wrongInWords);
});

test('design-3: after the start of a VM each thread of the executable is where it was, and new ones begin there', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const { plugin, client } = await serving(ground);
  await using _plugin = plugin;
  const threads = (): readonly string[] =>
    readdirSync(`/proc/${plugin.pid}/task`).map((tid) => `/proc/${plugin.pid}/task/${tid}`);
  const whereabouts = (): readonly string[] =>
    threads().flatMap((thread) =>
      ['root', 'cwd', 'exe', 'ns/mnt'].map((it) => readlinkSync(`${thread}/${it}`)),
    );
  const before = new Set(whereabouts());
  const qemus: string[] = [];
  for (const _ of [1, 2]) {
    const request = sectorTask(ground);
    const taskId = request.id;
    await client.call(Driver.method.startTask, { task: request });
    const { driver } = await client.call(Driver.method.inspectTask, { taskId });
    const root = `/proc/${driver?.attributes.pid}/root`;
    qemus.push(readlinkSync(`/proc/${driver?.attributes.pid}/ns/mnt`));
    assert.deepEqual([existsSync(`${root}/usr/bin`), existsSync(`${root}/proc`)], [true, false]);
    assert.deepEqual(new Set(whereabouts()), before);
    const wrong = sectorTask(ground, { config: { user_data: wrongUserData } });
    const failure = await failureOf(client.call(Driver.method.startTask, { task: wrong }));
    assert.match(failure.details, wrongInWords);
    await client.call(Driver.method.destroyTask, { taskId, force: true });
  }
  assert.equal(new Set(qemus).size, 1, 'one root for all');
  const names = threads().map((thread) => readFileSync(`${thread}/comm`, 'utf8').trim());
  assert.equal(names.filter((name) => name === 'libuv-worker').length, 16, names.join());
  assert.ok(!before.has(qemus[0] ?? ''));
  assert.deepEqual(await ground.leftovers(), []);
});

test('V-147: an image in an archive is unpacked, checked and stored inside the executable', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const { plugin, client } = await serving(ground);
  await using _plugin = plugin;
  const image = imageOf(ground.spec(0)) ?? '';
  const request = sectorTask(ground, { config: { image: 'local/disk.tar.xz' } });
  const packed = join(ground.root, 'alloc/web/local/disk.tar.xz');
  execFileSync('tar', ['-C', dirname(image), '-cJf', packed, basename(image)]);
  await client.call(Driver.method.startTask, { task: request });
  const store = join(ground.options.dataDir, 'image-store');
  const [key = '', ...more] = readdirSync(store).filter((name) => /^[0-9a-f]{64}$/.test(name));
  assert.deepEqual(more, []);
  assert.ok(readFileSync(join(store, key, 'image')).equals(readFileSync(image)));
  await client.call(Driver.method.destroyTask, { taskId: request.id, force: true });
  assert.deepEqual(await ground.leftovers(), []);
});

test('the executable is not built again when nothing has changed', async () => {
  const begin = performance.now();
  assert.equal(await build(), executable);
  assert.ok(performance.now() - begin < patient(1000));
  assert.ok(existsSync(join(executable, '../nomad-driver-qmp.inputs')));
});
