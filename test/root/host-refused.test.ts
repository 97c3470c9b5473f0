import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { type TestContext, test } from 'node:test';
import { findProgram } from '#host';
import { requireOrSkip } from '../support/require.ts';

/** Spawns a program, reports the error, and shows that it is still at home and can start programs. */
const script = (options: string): string => `
  import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
  import { spawnDetached } from ${JSON.stringify(import.meta.resolve('#host'))};
  // A detached program does not keep its starter running.
  setTimeout(() => process.exit(1), 20_000);
  const home = () => ['mnt', 'net', 'ipc'].map((it) => readlinkSync('/proc/thread-self/ns/' + it)).join();
  const before = [home(), process.cwd(), readFileSync('/etc/passwd', 'utf8')];
  const start = () => spawnDetached({ program: '/bin/true', args: [], stdio: [], ...${options} })
    .then(() => undefined, (error) => error);
  const { name, code, errno } = (await start()) ?? {};
  const open = readdirSync('/proc/self/fd').length;
  await start();
  const { exit } = await spawnDetached({ program: '/bin/true', args: [], stdio: ['ignore', 'ignore', 'ignore'] });
  const ended = await exit;
  console.log(JSON.stringify({
    name, code, errno,
    atHome: before.join() === [home(), process.cwd(), readFileSync('/etc/passwd', 'utf8')].join(),
    left: readdirSync('/proc/self/fd').length - open,
    exit: ended.code,
  }));
  process.exit();`;

/** A node that has given up one capability. */
function without(t: TestContext, right: string): readonly string[] {
  const setpriv = findProgram('setpriv');
  requireOrSkip(t, setpriv !== undefined, 'needs setpriv');
  return setpriv === undefined ? [] : [setpriv, `--bounding-set=-${right}`, `--inh-caps=-${right}`];
}

/**
 * A node under the filter of systemd's RestrictNamespaces= with a list of permitted kinds: setns with 0 for the kind is
 * refused (seccomp_restrict_namespaces in systemd's src/shared/seccomp-util.c).
 */
function filtered(t: TestContext): readonly string[] {
  const python = findProgram('python3');
  requireOrSkip(t, python !== undefined, 'needs python3');
  return python === undefined ? [] : [python, '-c', filter];
}

// Classic BPF over struct seccomp_data: the call's number at 0, the low half of its second argument at 24.
const filter = `
import ctypes, os, struct, sys
setns = ${process.arch === 'arm64' ? 268 : 308}
load, equal, result = 0x20, 0x15, 0x06
rules = [(load, 0, 0, 0), (equal, 0, 3, setns), (load, 0, 0, 24), (equal, 0, 1, 0), (result, 0, 0, 0x50001), (result, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *it) for it in rules))
program = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', len(rules), ctypes.addressof(code)))
if ctypes.CDLL(None, use_errno=True).prctl(22, 2, program, 0, 0) != 0: sys.exit('no filter: %d' % ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])`;

/** What the script reports; undefined where the test is skipped. */
function run(
  t: TestContext,
  options: string,
  limit: (t: TestContext) => readonly string[],
): unknown {
  if (!requireOrSkip(t, process.getuid?.() === 0, 'needs root: rights to give up'))
    return undefined;
  const [program, ...args] = limit(t);
  if (program === undefined) return undefined;
  const node = [process.execPath, '--input-type=module', '-e', script(options)];
  const ended = spawnSync(program, [...args, ...node], { encoding: 'utf8', timeout: 20_000 });
  assert.deepEqual([ended.signal, ended.status], [null, 0], ended.stderr);
  return JSON.parse(ended.stdout);
}

const refusals = {
  'no network and IPC namespaces without CAP_SYS_ADMIN': ['sys_admin', '{ alone: true }'],
  'no namespace of processes without CAP_SYS_ADMIN': ['sys_admin', '{ endsWhole: true }'],
  'no bare root without CAP_SYS_ADMIN': ['sys_admin', '{ bareRoot: true }'],
  'neither of them without CAP_SYS_ADMIN': ['sys_admin', '{ alone: true, bareRoot: true }'],
  // The namespace of mounts could be left, and not entered again.
  'no bare root without CAP_SYS_CHROOT': ['sys_chroot', '{ bareRoot: true }'],
} as const;
for (const [name, [right, options]] of Object.entries(refusals)) {
  test(`${name}: the start fails, and this process goes on at home`, (t) => {
    const seen = run(t, options, () => without(t, right));
    if (seen === undefined) return;
    const error = { name: 'HostError', code: 'system', errno: 'EPERM' };
    assert.deepEqual(seen, { ...error, atHome: true, left: 0, exit: 0 });
  });
}

test("all namespaces and the bare root work under systemd's RestrictNamespaces= that permits them", (t) => {
  const seen = run(t, '{ alone: true, endsWhole: true, bareRoot: true }', filtered);
  if (seen === undefined) return;
  assert.deepEqual(seen, { atHome: true, left: 0, exit: 0 });
});
