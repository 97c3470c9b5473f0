import assert from 'node:assert/strict';
import { accessSync, constants, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { findProgram, nativeArch, runProgram } from '#host';
import type { Emulator } from '#qemu';
import {
  armProgram,
  guestMessage,
  type Program,
  testGuest,
  x86Program,
} from '../../src/qemu/kvm/guest.ts';
import { judge, probeKvm } from '../../src/qemu/kvm/probe.ts';
import type { GuestRun } from '../../src/qemu/kvm/run.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const waiting = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(20_000) });

test('the guest is a boot sector on a disk the firmware boots from', () => {
  const disk = Buffer.from(testGuest('x86_64').image());
  assert.equal(disk.length, 1 << 20);
  assert.equal(disk.readUInt16LE(510), 0xaa55);
  assert.ok(disk.subarray(0, 446).includes(guestMessage), 'ends before the partition table');
  assert.ok(disk.subarray(512).every((byte) => byte === 0));
});

const programs: Record<string, { prefix: string; as: readonly string[]; program: Program }> = {
  'x86-64': {
    prefix: process.arch === 'x64' ? '' : 'x86_64-linux-gnu-',
    as: ['--64'],
    program: x86Program,
  },
  arm64: {
    prefix: process.arch === 'arm64' ? '' : 'aarch64-linux-gnu-',
    as: [],
    program: armProgram,
  },
};
for (const [name, { prefix, as, program }] of Object.entries(programs)) {
  test(`the ${name} machine code is that of its assembly`, async (t) => {
    const [assembler, linker, copier] = ['as', 'ld', 'objcopy'].map((tool) =>
      findProgram(`${prefix}${tool}`),
    );
    if (assembler === undefined || linker === undefined || copier === undefined) {
      requireOrSkip(t, false, `needs the assembler ${prefix}as and its companions`);
      return;
    }
    const dir = tmpDir(t);
    const file = (ending: string): string => join(dir, `guest.${ending}`);
    const image = file('bin');
    writeFileSync(file('S'), `${program.map(([, assembly]) => assembly).join('\n')}\n`);
    for (const run of [
      { program: assembler, args: [...as, file('S'), '-o', file('o')] },
      { program: linker, args: ['-Ttext', '0x7c00', '-e', '0', file('o'), '-o', file('elf')] },
      { program: copier, args: ['-O', 'binary', '-j', '.text', file('elf'), image] },
    ]) {
      const { code, stderr } = await runProgram(run, waiting());
      assert.equal(code, 0, stderr);
    }
    assert.equal(program.map(([code]) => code).join(''), readFileSync(image).toString('hex'));
  });
}

const nothing: GuestRun = { end: 'exit', code: 0, signal: null, serial: '', messages: '' };
const verdicts: Record<string, [Partial<GuestRun>, boolean, RegExp]> = {
  'the message was printed': [{ serial: `\n${guestMessage}\n\0` }, true, /ran under KVM/],
  'the message was printed by a QEMU that did not end': [
    { serial: guestMessage, end: 'deadline' },
    true,
    /ran under KVM/,
  ],
  'KVM gave up': [{ end: 'kvm-error' }, false, /internal error/],
  'nothing came in time': [{ end: 'deadline' }, false, /within 3 s/],
  'QEMU aborted': [
    {
      code: null,
      signal: 'SIGABRT',
      messages: 'qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69\nqemu: Assertion\n',
    },
    false,
    /ended by SIGABRT before a test guest ran: error: failed to set MSR 0x10a/,
  ],
  'QEMU refused': [
    { code: 1, messages: '\nCould not access KVM kernel module: Permission denied\n' },
    false,
    /exited with 1 .*Could not access KVM kernel module: Permission denied$/,
  ],
  'QEMU ended without a word': [{}, false, /exited with 0 before a test guest ran$/],
};
for (const [name, [run, usable, words]] of Object.entries(verdicts)) {
  test(`V-75: KVM is judged right when ${name}`, () => {
    const verdict = judge({ ...nothing, ...run });
    assert.equal(verdict.usable, usable);
    assert.match(verdict.reason, words);
    // A busy host answers late; everything else is KVM's own word.
    assert.equal(verdict.doubtful ?? false, run.end === 'deadline' && !usable);
  });
}

const fake: Omit<Emulator, 'arch' | 'path'> = {
  version: '8.1.2',
  versionNumber: 8_001_002,
  machines: ['q35', 'virt'],
  defaultMachine: 'q35',
  maxVcpus: new Map(),
  virtioFs: false,
  ninePfs: false,
  devices: new Set(),
  firmware: [],
};

function canOpenKvm(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

test('V-75: a caller that stops waiting for a probe begun by another gets its reason at once, the other the verdict', async (t) => {
  if (!requireOrSkip(t, canOpenKvm(), 'needs /dev/kvm')) return;
  if (!requireOrSkip(t, nativeArch() !== undefined, 'needs a host that QEMU runs on')) return;
  const path = join(tmpDir(t), 'qemu');
  // It never reports anything: the probe takes its maximum.
  writeFileSync(path, '#!/bin/sh\nexec sleep 60\n', { mode: 0o755 });
  const emulator = { ...fake, arch: nativeArch() ?? 'x86_64', path };
  const probing = probeKvm(emulator, waiting());
  const reason = new Error('the task was destroyed');
  const caller = new AbortController();
  const joined = probeKvm(emulator, caller);
  const order: string[] = [];
  const both = [
    probing.then(() => order.push('verdict')),
    joined.catch((error: unknown) => order.push(error === reason ? 'reason' : String(error))),
  ];
  caller.abort(reason);
  await Promise.all(both);
  assert.deepEqual(order, ['reason', 'verdict']);
  assert.equal((await probing).doubtful, true);
});
