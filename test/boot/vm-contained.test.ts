import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { runProgram, spawnDetached } from '#host';
import type { VmSpec } from '#spec';
import type { Domain } from '#vm';
import { diskOn, imageOf } from '../support/disks.ts';
import { findProgram, findVirtiofsd } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

const GiB = 1024 ** 3;

/** Soft and hard limit from /proc/<pid>/limits. */
function limitsOf(pid: number, name: string): readonly string[] {
  const line = readFileSync(`/proc/${pid}/limits`, 'utf8')
    .split('\n')
    .find((it) => it.startsWith(name));
  return (line?.slice(name.length).trim().split(/\s+/) ?? []).slice(0, 2);
}

/** Bit 24 of the effective capabilities. */
const hasSysResource = (): boolean => {
  const set = /^CapEff:\s+([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return (BigInt(`0x${set ?? '0'}`) & (1n << 24n)) !== 0n;
};

test('design-3: each QEMU is alone in its namespaces: out of reach of loopback and abstract sockets', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const [first, second] = await Promise.all([
    virtualizer.createDomain(ground.spec(0), soon()),
    virtualizer.createDomain(ground.spec(0, { name: 'vm-1' }), soon()),
  ]);
  for (const kind of ['net', 'ipc']) {
    const all = ['self', first.record.pid, second.record.pid].map((pid) =>
      readlinkSync(`/proc/${pid}/ns/${kind}`),
    );
    assert.equal(new Set(all).size, 3, `${kind}: ${all.join(' ')}`);
  }
  const server = createServer((socket) => socket.on('error', () => undefined));
  const name = `\0qmp-contained-${process.pid}`;
  await new Promise<void>((resolve) => server.listen(name, resolve));
  t.after(() => server.close());
  const script = `require('node:net').connect(${JSON.stringify({ path: name })})
    .on('connect', () => process.exit(0)).on('error', ({ code }) => { console.log(code); process.exit(1); })`;
  const reach = (...enter: readonly string[]) =>
    runProgram(
      {
        program: findProgram('nsenter') ?? 'nsenter',
        args: [...enter, '--', process.execPath, '-e', script],
      },
      soon(),
    );
  assert.equal((await reach('--net=/proc/self/ns/net')).code, 0, 'from here it is reached');
  const inside = await reach(`--net=/proc/${first.record.pid}/ns/net`);
  assert.equal(inside.stdout.trim(), 'ECONNREFUSED');
});

test('design-3: QEMU sees nothing of the host but /usr and a few devices, except where it serves directories', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const shares = [{ tag: 'localDir', source: ground.taskDir, target: '/local', readOnly: true }];
  const start = (name: string, changes: Partial<VmSpec>) =>
    virtualizer.createDomain(ground.spec(0, { name, ...changes }), soon());
  const first = await start('vm-0', {});
  const second = await start('vm-1', { shares });
  const over9p = await ground.withoutVirtiofsd(() => start('vm-2', { shares }));
  const rootOf = ({ record }: Domain): readonly string[] =>
    readdirSync(`/proc/${record.pid}/root`).toSorted();
  const usual = /^(bin|dev|etc|lib(32|64)?|sbin|usr)$/;
  const more = (domain: Domain): readonly string[] =>
    rootOf(domain).filter((it) => !usual.test(it));
  assert.deepEqual([more(first), more(second)], [[], []]);
  assert.deepEqual(rootOf(over9p), readdirSync('/').toSorted());
  for (const path of ['etc/passwd', 'etc/shadow', 'dev/mem', ground.root.slice(1)])
    assert.ok(!existsSync(`/proc/${first.record.pid}/root/${path}`), path);
  assert.deepEqual(
    ground.lines.filter((it) => it.includes('see the files')),
    [],
  );
});

test('what QEMU reports of a path in an image does not show whether it exists on the host', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const closed = join(ground.root, 'closed');
  writeFileSync(closed, '', { mode: 0o600 });
  const program = findProgram('qemu-system-x86_64') ?? assert.fail();
  const said = async (filename: string, bareRoot: boolean): Promise<string> => {
    const path = join(mkdtempSync(join(ground.root, 'said-')), 'messages');
    const messages = openSync(path, 'w');
    const blockdev = JSON.stringify({ 'node-name': 'it', driver: 'file', filename });
    const child = await spawnDetached({
      program,
      args: ['-machine', 'none', '-nodefaults', '-display', 'none', '-S', '-blockdev', blockdev],
      stdio: ['ignore', 'ignore', messages],
      uid: 65_534,
      gid: 65_534,
      bareRoot,
    });
    closeSync(messages);
    await child.exit;
    return readFileSync(path, 'utf8').replaceAll(filename, 'PATH').trim();
  };
  const paths = [closed, '/etc/shadow', '/root/.profile', '/no/such/file'];
  const outside = new Set(await Promise.all(paths.map((it) => said(it, false))));
  assert.ok(outside.size > 1, [...outside].join('; '));
  const inside = new Set(await Promise.all(paths.map((it) => said(it, true))));
  assert.equal(inside.size, 1, [...inside].join('; '));
  assert.match([...inside].join(), /No such file/);
});

test('an emulator that needs more than /usr runs all the same, and what it sees is reported to the operator', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const elsewhere = join(ground.root, 'programs');
  mkdirSync(elsewhere);
  writeFileSync(
    join(elsewhere, 'qemu-system-x86_64'),
    `#!/bin/sh\nexec ${findProgram('qemu-system-x86_64')} "$@"\n`,
    { mode: 0o755 },
  );
  const { PATH } = process.env;
  process.env.PATH = `${elsewhere}:${PATH}`;
  t.after(() => {
    process.env.PATH = PATH;
  });
  const { record } = await ground.virtualizer().createDomain(ground.spec(0), soon());
  assert.deepEqual(readdirSync(`/proc/${record.pid}/root`), readdirSync('/'));
  const [line = ''] = ground.lines.filter((it) =>
    it.includes('QEMU can see the files of the host'),
  );
  assert.match(line, /ENOENT/);
});

test('design-3: QEMU begins with limits on threads, descriptors and core files', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const { record } = await ground.virtualizer().createDomain(ground.spec(0), soon());
  const soft = (name: string) => limitsOf(record.pid, name)[0];
  assert.equal(soft('Max open files'), '4096');
  assert.equal(soft('Max processes'), '257');
  assert.equal(soft('Max core file size'), '0');
});

test('design-3: QEMU can raise none of its limits, where this root may set those of other users', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const spec = ground.spec(0, { disks: [diskOn(imageOf(ground.spec(0)) ?? '', 4096)] });
  const { record } = await ground.virtualizer().createDomain(spec, soon());
  // A container's root may lack the right; QEMU then keeps the soft limits that it began with.
  const which = hasSysResource() ? 1 : 0;
  const limit = (name: string) => limitsOf(record.pid, name)[which];
  assert.equal(limit('Max open files'), '4096');
  assert.equal(limit('Max processes'), '257');
  assert.equal(limit('Max core file size'), '0');
  if (which === 0) return;
  assert.equal(limit('Max file size'), String(Math.ceil(4 * GiB * (17 / 16)) + 64 * 2 ** 20));
});

test('V-101: statistics count QEMU and its virtiofsd, and no other process that names a share; none of them can be dumped', async (t) => {
  if (!canRunVms(t)) return;
  if (!requireOrSkip(t, findVirtiofsd() !== undefined, 'needs virtiofsd')) return;
  await using ground = VmGround.open();
  const source = ground.taskDir;
  const shares = [{ tag: 'localDir', source, target: '/local', readOnly: true }];
  const spec = ground.spec(0, { shares });
  const starter = await ground.starter(spec);
  const record = await starter.create();
  await starter.kill();
  const path = `${ground.paths().shares}/localDir`;
  const args = ['-e', 'setInterval(() => {}, 1000)', path];
  const bystander = ground.own(spawn(process.execPath, args, { stdio: 'ignore' }));
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.recoverDomain(record, spec, soon());
  assert.ok(domain !== undefined);
  const { pids } = await domain.usage(soon());
  assert.ok(pids.length >= 2, `${pids.length} processes`);
  assert.ok(!pids.includes(bystander.pid ?? 0), 'the bystander counts');
  for (const pid of pids) {
    assert.match(readFileSync(`/proc/${pid}/coredump_filter`, 'latin1'), /^0+$/m, `process ${pid}`);
  }
  await virtualizer.destroyDomain(spec.name);
  assert.equal(bystander.exitCode ?? bystander.signalCode, null, 'nor is it ended');
});
