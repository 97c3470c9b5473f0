import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ExitEvidence, exitResult } from '../../src/vm/live/exit.ts';

type Row = readonly [
  evidence: Partial<Omit<ExitEvidence, 'lastMessages'>> & { readonly messages?: string },
  result: readonly [exitCode: number, signal: number, reason: string, error: string | undefined],
];

/** The end of a journal, with this cause. */
const journal = (reason: string, panicked = false): ExitEvidence['journal'] => ({
  reason,
  guest: reason.startsWith('guest-'),
  panicked,
});
const exited = (code: number): ExitEvidence['status'] => ({ code, signal: null });
const ended = (signal: NodeJS.Signals): ExitEvidence['status'] => ({ code: null, signal });

/** What is known of an end → what Nomad reports of it. */
const table: Readonly<Record<string, Row>> = {
  'a guest that powers itself off has succeeded': [
    { journal: journal('guest-shutdown'), status: exited(0) },
    [0, 0, 'guest-shutdown', undefined],
  ],
  'a reset that ends the VM is a success too': [
    { journal: journal('guest-reset') },
    [0, 0, 'guest-reset', undefined],
  ],
  'a power-off during a stop is the same success': [
    { journal: journal('guest-shutdown'), stopping: true },
    [0, 0, 'guest-shutdown', undefined],
  ],
  'a panic is a crash although QEMU exits with 0': [
    { journal: journal('guest-panic', true), status: exited(0) },
    [1, 0, 'guest-panic', 'task has crashed: the guest system panicked'],
  ],
  'a power-off after a panic is still a crash': [
    { journal: journal('guest-shutdown', true) },
    [1, 0, 'guest-panic', 'task has crashed: the guest system panicked'],
  ],
  'a watchdog that powers the VM off reports a crash of the guest': [
    { journal: journal('watchdog'), status: exited(0) },
    [1, 0, 'watchdog', 'task has crashed: the guest system no longer fed its watchdog'],
  ],
  'the journal counts more than an OOM kill that comes after it': [
    { journal: journal('guest-shutdown'), oomKills: 1, status: ended('SIGKILL') },
    [0, 0, 'guest-shutdown', undefined],
  ],
  "the driver's own quit is a success": [
    { journal: journal('host-qmp-quit'), stopping: true },
    [0, 0, 'host-qmp-quit', undefined],
  ],
  'a quit that the driver did not send is a failure': [
    { journal: journal('host-qmp-quit') },
    [1, 0, 'host-qmp-quit', 'QEMU received a quit command that the driver did not send'],
  ],
  "the driver's own SIGTERM is a success": [
    { journal: journal('host-signal'), stopping: true },
    [0, 0, 'host-signal', undefined],
  ],
  "another process's SIGTERM is a failure with its number": [
    { journal: journal('host-signal'), status: exited(0) },
    [143, 15, 'host-signal', 'QEMU was terminated by a signal from the host'],
  ],
  'a cause that a later QEMU may have is named': [
    { journal: journal('host-ui') },
    [1, 0, 'host-ui', 'QEMU ended the VM: host-ui'],
  ],
  'without a journal an exit code carries the last messages of QEMU': [
    { status: exited(1), messages: 'qemu: no such file' },
    [1, 0, 'emulator-failed', 'QEMU exited with code 1: qemu: no such file'],
  ],
  'exit code 0 without a journal is no success': [
    { status: exited(0) },
    [1, 0, 'emulator-failed', 'QEMU exited with code 0'],
  ],
  'a crash is reported with its signal and the last messages': [
    { status: ended('SIGSEGV'), messages: 'qemu: bad' },
    [139, 11, 'emulator-crashed', 'QEMU crashed with SIGSEGV: qemu: bad'],
  ],
  'a crash during a stop is still reported': [
    { status: ended('SIGABRT'), stopping: true },
    [134, 6, 'emulator-crashed', 'QEMU crashed with SIGABRT'],
  ],
  'SIGKILL from outside is a failure': [
    { status: ended('SIGKILL') },
    [137, 9, 'killed', 'QEMU was killed from the host with SIGKILL'],
  ],
  "the driver's own SIGKILL has no error of its own": [
    { status: ended('SIGKILL'), stopping: true },
    [137, 9, 'killed', undefined],
  ],
  'an adopted VM that the driver killed has none either': [
    { stopping: true },
    [137, 9, 'killed', undefined],
  ],
  'a VM that ended while no plugin watched it was killed or crashed': [
    {},
    [
      137,
      9,
      'killed',
      'QEMU was killed or crashed while no plugin was watching: its event journal has no SHUTDOWN event',
    ],
  ],
};

for (const [name, [{ messages = '', ...known }, expected]] of Object.entries(table)) {
  test(`V-89: ${name}`, () => {
    const result = exitResult({
      journal: undefined,
      status: undefined,
      oomKills: 0,
      stopping: false,
      ...known,
      lastMessages: () => messages,
    });
    const [exitCode, signal, reason, error] = expected;
    assert.deepEqual(result, { exitCode, signal, oomKilled: false, error, reason });
  });
}

for (const stopping of [false, true]) {
  test(`an OOM kill is reported as one, ${stopping ? 'also' : 'not only'} during a stop`, () => {
    const { error, ...result } = exitResult({
      journal: undefined,
      status: ended('SIGKILL'),
      oomKills: 1,
      stopping,
      lastMessages: () => '',
    });
    assert.deepEqual(result, { exitCode: 137, signal: 9, oomKilled: true, reason: 'oom-killed' });
    assert.match(error ?? '', /lack of memory/);
  });
}

test('the messages of QEMU are not read where something better is known', () => {
  const lastMessages = (): string => assert.fail('they were read');
  for (const known of [{ journal: journal('guest-shutdown') }, { oomKills: 1 }, {}]) {
    exitResult({
      journal: undefined,
      status: undefined,
      oomKills: 0,
      stopping: false,
      ...known,
      lastMessages,
    });
  }
});
