import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Emulator } from '#qemu';
import {
  dialectOf,
  shareTools,
  virtiofsdArguments,
} from '../../src/vm/devices/shares/share-tools.ts';
import { tmpDir } from '../support/tmp.ts';

const emulator: Emulator = {
  arch: 'x86_64',
  path: '/usr/bin/qemu-system-x86_64',
  version: '7.2.22',
  versionNumber: 7_002_022,
  machines: ['q35', 'pc-q35-7.2'],
  maxVcpus: new Map(),
  defaultMachine: 'pc-q35-7.2',
  virtioFs: true,
  ninePfs: true,
  devices: new Set(),
  firmware: [],
};
const waiting = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(10_000) });

// What the programs say of themselves, cut down to what tells them apart.
const helps = {
  'QEMU 7.2': [
    'usage: virtiofsd [options]\n    -o source=PATH\n    --fd=FDNUM\n',
    ['--fd=3', '-o', 'source=/share', '-o', 'sandbox=namespace', '-o', 'cache=auto', '-f'],
  ],
  'virtiofsd 1.10': [
    'Usage: virtiofsd\n      --shared-dir <SHARED_DIR>\n      --sandbox <SANDBOX>\n',
    ['--fd=3', '--shared-dir=/share', '--sandbox=namespace', '--cache=auto'],
  ],
  'virtiofsd 1.13': [
    'Usage: virtiofsd\n      --shared-dir <SHARED_DIR>\n      --readonly\n',
    ['--fd=3', '--shared-dir=/share', '--sandbox=namespace', '--cache=auto', '--readonly'],
  ],
} as const;

for (const [name, [help, expected]] of Object.entries(helps)) {
  test(`V-68: ${name} is started with options that it knows`, () => {
    assert.deepEqual(
      virtiofsdArguments('/share', { dialect: dialectOf(help), readOnly: true }),
      expected,
    );
  });
}

test('V-68: virtiofsd is asked once and after each change; one that fails is passed over, with its reason', async (t) => {
  const path = tmpDir(t);
  const program = join(path, 'virtiofsd');
  const write = (body: string): void => {
    rmSync(program, { force: true });
    writeFileSync(program, `#!/bin/sh\necho >>${path}/runs\n${body}\n`, { mode: 0o755 });
  };
  const runs = (): number => readFileSync(join(path, 'runs'), 'utf8').length;
  const tools = (ninePfs: boolean) => shareTools({ ...emulator, ninePfs }, waiting(), { path });

  write('echo "  --shared-dir <SHARED_DIR>"');
  const [one, two] = await Promise.all([tools(true), tools(true)]);
  assert.deepEqual(one, { kind: 'virtiofs', virtiofsd: program, dialect: 'rust', reason: '' });
  assert.deepEqual(two, one);
  assert.equal(runs(), 1);

  write('echo "libseccomp.so.2: cannot open" >&2; exit 127');
  const overNine = await tools(true);
  assert.equal(overNine.kind, '9p');
  assert.match(overNine.reason, /virtiofsd --help: exit 127: libseccomp.so.2: cannot open/);
  assert.deepEqual(await tools(false), { ...overNine, kind: 'none' });
  assert.equal(runs(), 3);
});
