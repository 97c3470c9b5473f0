import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { testBareRoot } from '#qemu';
import type { Waiting } from '#spec';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';

const soon = (): Waiting => ({ signal: AbortSignal.timeout(patient(10_000)) });

/** A directory below /usr, which a bare root shows: it has to be there before the first one is made. */
function directoryInUsr(t: TestContext): string | undefined {
  const isolated = process.getuid?.() === 0 && process.env.QMP_ISOLATED === '1';
  if (!requireOrSkip(t, isolated, 'needs root in namespaces of its own')) return undefined;
  const place = '/usr/local';
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', place]);
  t.after(() => execFileSync('umount', ['--lazy', place]));
  return place;
}

test('an emulator that could not run in a bare root for a moment is tried again, one that could is not', async (t) => {
  const place = directoryInUsr(t);
  if (place === undefined) return;
  const interpreter = join(place, 'shell');
  const ready = join(place, 'ready');
  const program = join(place, 'qemu');
  const script = `#!${interpreter}\n[ -e ${ready} ] || { echo 'out of memory' >&2; exit 1; }\n`;
  writeFileSync(program, script, { mode: 0o755 });
  // It can't be started, then it fails, then it runs: its own file stays as it is.
  await assert.rejects(testBareRoot(program, soon()), /starting .*: ENOENT/);
  execFileSync('cp', ['/bin/sh', interpreter]);
  await assert.rejects(
    testBareRoot(program, soon()),
    /qemu does not start .* \(1\): out of memory/,
  );
  writeFileSync(ready, '');
  await testBareRoot(program, soon());
  rmSync(ready);
  await testBareRoot(program, soon());
});
