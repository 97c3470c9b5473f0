import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { identify } from '#host';
import { QmpClient } from '#qmp';
import type { ExitResult } from '#vm';
import type { SectorMode } from '../support/images.ts';
import { patient } from '../support/patience.ts';
import { canRunVms, eventually, soon, VmGround } from '../support/vm.ts';

interface Case {
  readonly mode: SectorMode;
  /** undefined: the guest itself does it, two seconds after its start. */
  readonly signal?: NodeJS.Signals;
  readonly exit: Omit<ExitResult, 'error'>;
  readonly error: RegExp | undefined;
  /** What is left to say when nobody saw QEMU's end; the same when left out. */
  readonly unseen?: { readonly exit: Omit<ExitResult, 'error'>; readonly error: RegExp };
}

const well = { exitCode: 0, signal: 0, oomKilled: false };
const wordless = {
  exit: { ...well, exitCode: 137, signal: 9, reason: 'killed' },
  error: /^QEMU was killed or crashed while no plugin was watching/,
};

const matrix: Readonly<Record<string, Case>> = {
  'V-85: the guest powers itself off': {
    mode: 2,
    exit: { ...well, reason: 'guest-shutdown' },
    error: undefined,
  },
  'V-85 V-89: the guest panics': {
    mode: 6,
    exit: { ...well, exitCode: 1, reason: 'guest-panic' },
    error: /^task has crashed: the guest system panicked$/,
  },
  'V-89 D37: QEMU is killed from outside': {
    mode: 0,
    signal: 'SIGKILL',
    exit: { ...well, exitCode: 137, signal: 9, reason: 'killed' },
    error: /^QEMU was killed from the host with SIGKILL$/,
    unseen: wordless,
  },
  'V-89 D37: QEMU is ended from outside': {
    mode: 0,
    signal: 'SIGTERM',
    exit: { ...well, exitCode: 143, signal: 15, reason: 'host-signal' },
    error: /^QEMU was terminated by a signal from the host$/,
  },
  'V-89 D37: QEMU crashes': {
    mode: 0,
    signal: 'SIGSEGV',
    exit: { ...well, exitCode: 139, signal: 11, reason: 'emulator-crashed' },
    error: /^QEMU crashed with SIGSEGV$/,
    unseen: wordless,
  },
};

const cases = Object.entries(matrix).map(([title, it], index) => ({
  ...it,
  title,
  name: `vm-${index}`,
}));

for (const { title, mode, signal, exit, error } of cases) {
  test(`${title}: reason, code and words`, async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open();
    const domain = await ground.virtualizer().createDomain(ground.spec(mode), soon());
    const waiters = [domain.wait(soon()), domain.wait(soon())];
    await hasBooted(ground.paths().console);
    if (signal !== undefined) process.kill(domain.record.pid, signal);
    const [first, second] = await Promise.all(waiters);
    check(first, exit, error, title);
    assert.equal(first, second, 'V-90: every waiter is told the same');
    const asked = performance.now();
    assert.equal(await domain.wait(soon()), first);
    assert.ok(performance.now() - asked < patient(500), 'V-90 D18: a late one is told at once');
    assert.equal(domain.state, 'exited');
    assert.ok((domain.completedAtMs ?? 0) >= domain.startedAtMs);
    assert.equal(ground.told().at(-1), first?.error ?? `VM ended (${exit.reason})`);
  });
}

test('P-40 V-93 V-89: how a VM ended is known, although no plugin was running then', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const starters = await Promise.all(
    cases.map(async ({ mode, name }) => {
      const starter = await ground.starter(ground.spec(mode, { name }));
      return { starter, record: await starter.create() };
    }),
  );
  for (const { starter } of starters) await starter.kill();
  for (const { name } of cases) await hasBooted(ground.paths(name).console);
  for (const [index, { record }] of starters.entries()) {
    const signal = cases[index]?.signal;
    if (signal !== undefined) process.kill(record.pid, signal);
  }
  const virtualizer = ground.virtualizer();
  for (const [index, { record }] of starters.entries()) {
    const { title, name, mode, exit, error, unseen } = cases[index] ?? assert.fail();
    await eventually(() => identify(record.pid) === undefined, `${title}: the end of QEMU`);
    const domain = await virtualizer.recoverDomain(record, ground.spec(mode, { name }), soon());
    const result = await domain?.wait(soon());
    check(result, unseen?.exit ?? exit, unseen?.error ?? error, title);
  }
});

test('V-89 D37: another process makes QEMU quit: not a success', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const spec = ground.spec(0);
  const starter = await ground.starter(spec);
  const record = await starter.create();
  await starter.kill();
  await using qmp = await QmpClient.connect(ground.paths().qmp, soon());
  await qmp.execute('quit', {}, soon()).catch(() => {});
  await eventually(() => identify(record.pid) === undefined, 'the end of QEMU');
  const domain = await ground.virtualizer().recoverDomain(record, spec, soon());
  check(
    await domain?.wait(soon()),
    { ...well, exitCode: 1, reason: 'host-qmp-quit' },
    /^QEMU received a quit command that the driver did not send$/,
    'quit',
  );
});

test('V-85 V-104: a guest that resets or breaks goes on, and that is reported', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  await Promise.all(
    ([3, 5] as const).map(async (mode) => {
      const name = `vm-${mode}`;
      const pipes = ground.pipes(name);
      const log = ground.read(pipes.stdoutPath);
      const domain = await virtualizer.createDomain(ground.spec(mode, { name, ...pipes }), soon());
      await log.until(/GUEST-BOOT.*GUEST-(RESET|FAULT).*GUEST-BOOT/s);
      await eventually(() => ground.told(name).includes('Guest rebooted'), `mode ${mode}: told`);
      assert.equal(domain.state, 'running');
      assert.equal(domain.exit, undefined);
      assert.ok(identify(domain.record.pid) !== undefined);
    }),
  );
});

/** The guest has said something, now or before its history was passed on. */
async function hasBooted(history: string): Promise<void> {
  const size = (): number => (existsSync(history) ? readFileSync(history).length : 0);
  await eventually(() => size() > 0, 'a word from the guest');
}

function check(
  result: ExitResult | undefined,
  expected: Omit<ExitResult, 'error'>,
  error: RegExp | undefined,
  title: string,
): void {
  assert.ok(result !== undefined, title);
  const { error: words, ...rest } = result;
  assert.deepEqual(rest, expected, title);
  if (error === undefined) assert.equal(words, undefined, title);
  else assert.match(words ?? '', error, title);
}
