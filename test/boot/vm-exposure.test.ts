import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { bindDirectory } from '#host';
import { QmpClient } from '#qmp';
import type { VmSpec } from '#spec';
import { readRecord } from '../../src/vm/store/record.ts';
import { everythingIn, reachOf } from '../support/foreign-user.ts';
import { inOwnNetns } from '../support/netns.ts';
import { virbr0 } from '../support/networks.ts';
import { findVirtiofsd } from '../support/programs.ts';
import { sendCommand } from '../support/qmp-commands.ts';
import { requireOrSkip } from '../support/require.ts';
import { booted, canRunVms, soon, VmGround } from '../support/vm.ts';

const nobody = 65_534;

/** A task's directories as Nomad makes them: open to everybody, and closed by a directory far above them. */
function taskWithSecrets(ground: VmGround, name: string): Partial<VmSpec> {
  const allocDir = join(ground.root, 'nomad', name);
  const taskDir = join(allocDir, 'task');
  const places = [join(allocDir, 'alloc'), join(taskDir, 'local'), join(taskDir, 'secrets')];
  for (const place of places) {
    mkdirSync(place, { recursive: true });
    chmodSync(place, 0o777);
    writeFileSync(join(place, 'nomad_token'), 'eyJhbGciOiJSUzI1NiIs', { mode: 0o644 });
  }
  chmodSync(join(ground.root, 'nomad'), 0o700);
  const [alloc = '', local = '', secrets = ''] = places;
  return {
    name,
    allocDir,
    taskDir,
    shares: [
      { tag: 'allocDir', source: alloc, target: '/alloc', readOnly: true },
      { tag: 'localDir', source: local, target: '/local', readOnly: true },
      { tag: 'secretsDir', source: secrets, target: '/secrets', readOnly: true },
    ],
  };
}

/** What others get of everything the driver has on this host, but the way to VMs whose names they would have to guess. */
async function exposed(ground: VmGround, names: readonly string[]): Promise<readonly string[]> {
  const { dataDir, runDir } = ground.options;
  const paths = [dataDir, runDir].flatMap(everythingIn);
  const records = await Promise.all(names.map((name) => readRecord(ground.paths(name).record)));
  const users = [nobody, ...records.map((it) => it?.uid ?? assert.fail('no record'))];
  const runs = names.map((name) => ground.paths(name).run);
  const ours = ['vms', 'uids', 'networks'].map((name) => join(dataDir, name));
  const harmless = new Set([dataDir, ...ours, runDir, ...runs].map((path) => `see ${path}`));
  return users.flatMap((uid) =>
    reachOf(uid, paths)
      .filter((it) => !harmless.has(it))
      .map((it) => `user ${uid}: ${it}`),
  );
}

inOwnNetns(import.meta.url, ['ip', 'nft'], () => {
  test('what a foreign user is found to reach is what it can reach', async (t) => {
    if (!requireOrSkip(t, process.getuid?.() === 0, 'needs root: to become another user')) return;
    await using ground = VmGround.open();
    const at = (name: string): string => join(ground.root, name);
    writeFileSync(at('open'), '', { mode: 0o644 });
    writeFileSync(at('closed'), '', { mode: 0o600 });
    mkdirSync(at('dir'));
    chmodSync(at('dir'), 0o755);
    const server = createServer().listen(at('socket'));
    await new Promise((resolve) => server.once('listening', resolve));
    chmodSync(at('socket'), 0o666);
    const found = reachOf(nobody, [at('open'), at('closed'), at('dir')]);
    server.close();
    assert.deepEqual(
      found,
      ['see open', 'read open', 'see closed', 'see dir', 'list dir'].map((it) =>
        it.replace(' ', ` ${ground.root}/`),
      ),
    );
  });

  test('only root reaches a file, a socket or a name of a task through what the driver makes', async (t) => {
    if (!canRunVms(t)) return;
    if (!requireOrSkip(t, findVirtiofsd() !== undefined, 'needs virtiofsd')) return;
    await using ground = VmGround.open({ managedNetworks: [virbr0] });
    const virtualizer = ground.virtualizer();
    const ports = [{ label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 }];
    const nics = [{ kind: 'bridge', bridge: 'virbr0', ports }] as const;
    const first = ground.spec(0, { ...taskWithSecrets(ground, 'vm-0'), nics });
    const second = ground.spec(0, taskWithSecrets(ground, 'vm-1'));
    const domains = [
      await virtualizer.createDomain(first, soon()),
      await ground.withoutVirtiofsd(() => virtualizer.createDomain(second, soon())),
    ];
    assert.ok(ground.told('vm-1').some((it) => it.startsWith('Directories are shared over 9p')));
    assert.deepEqual(
      ground.told('vm-0').filter((it) => /9p|No shared/.test(it)),
      [],
    );
    for (const domain of domains) await booted(domain);
    const noted = everythingIn(join(ground.options.dataDir, 'networks', 'virbr0'));
    assert.ok(noted.length > 1, 'what is noted of networks is among what is looked at');
    assert.deepEqual(await exposed(ground, ['vm-0', 'vm-1']), []);
    const runs = ['vm-0', 'vm-1'].map((name) => ground.paths(name).run);
    assert.deepEqual(ground.mounts().toSorted(), runs.toSorted(), 'the shares are out of sight');

    // QEMU looks below the directories that it opened at its start, also after its guest began anew.
    const [, { record: overNine = assert.fail() } = assert.fail()] = domains;
    const { qmp: socket } = ground.paths('vm-1');
    const directories = second.shares.map(({ source }) => source);
    const held = (): readonly string[] => {
      const open = openDirectories(overNine.pid);
      return directories.filter((path) => open.has(identityOf(path)));
    };
    assert.deepEqual(held(), directories);
    await virtualizer[Symbol.asyncDispose]();
    await sendCommand(socket, 'system_reset', {}, soon());
    await using qmp = await QmpClient.connect(socket, soon());
    await qmp.execute('query-status', {}, soon());
    assert.deepEqual(held(), directories);
  });

  test('VMs of the version that left their directories open are adopted, and closed', async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open();
    const spec = ground.spec(0, taskWithSecrets(ground, 'vm-0'));
    const starter = await ground.starter(spec);
    const record = await starter.create();
    await starter.kill();
    const { dataDir, runDir } = ground.options;
    const { run, shares } = ground.paths();
    for (const { tag, source } of spec.shares) {
      bindDirectory(source, join(shares, tag), { writable: false });
    }
    for (const path of [dataDir, join(dataDir, 'vms'), runDir, run, shares]) {
      chownSync(path, 0, 0);
      chmodSync(path, 0o711);
    }
    assert.notDeepEqual(await exposed(ground, ['vm-0']), []);
    const virtualizer = ground.virtualizer();
    await virtualizer.start();
    const domain = await virtualizer.recoverDomain(record, spec, soon());
    assert.equal(domain?.record.pid, record.pid);
    assert.deepEqual(await exposed(ground, ['vm-0']), []);
    assert.deepEqual(ground.mounts(), [run]);
  });
});

function identityOf(path: string): string {
  const { dev, ino } = statSync(path);
  return `${dev}:${ino}`;
}

/** Of what a process has open: the path of what is mounted nowhere any more begins at its own top. */
function openDirectories(pid: number): ReadonlySet<string> {
  const files = readdirSync(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`);
  return new Set(files.filter((path) => existsSync(path)).map(identityOf));
}
