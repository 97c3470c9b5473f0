import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { VmError } from '../../src/vm/error.ts';
import { diskOn } from '../support/disks.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

/** A file that QEMU's user may read, below /usr, which QEMU can see. */
const target = '/usr/lib/os-release';

/** A qcow2 whose data is in `target`, as no check would let pass. */
function evilHeader(dir: string, qemuImg: string): Buffer {
  const image = join(dir, 'evil.qcow2');
  const stand = join('/tmp', 'x'.repeat(target.length - '/tmp/'.length));
  const options = ['-f', 'qcow2', '-o', `data_file=${stand},data_file_raw=on`];
  execFileSync(qemuImg, ['create', '-q', ...options, image, '1M']);
  const bytes = readFileSync(image);
  rmSync(stand);
  rmSync(image);
  const at = bytes.indexOf(stand);
  assert.ok(at > 0);
  bytes.write(target, at);
  return bytes;
}

test('an image whose header is replaced between the check and QEMU is refused, and no guest runs', async (t) => {
  const qemuImg = findProgram('qemu-img') ?? '';
  if (!canRunVms(t) || !requireOrSkip(t, qemuImg !== '', 'needs qemu-img')) return;
  await using ground = VmGround.open();
  const image = join(ground.taskDir, 'disk.qcow2');
  execFileSync(qemuImg, ['create', '-q', '-f', 'qcow2', image, '1M']);
  const evil = evilHeader(ground.taskDir, qemuImg);
  const { guest } = ground.spec(0);
  const spec = ground.spec(0, {
    disks: [diskOn(image, 64)],
    // It is reported when the seed is made: behind the check of the image, in front of QEMU.
    guest: { ...guest, env: { 'no-shell-has': 'this' } },
  });
  const virtualizer = ground.virtualizer();
  let swapped = false;
  virtualizer.onEvent((_, { message }) => {
    if (!message.includes('left out')) return;
    writeFileSync(image, evil, { flag: 'r+' });
    swapped = true;
  });
  await assert.rejects(virtualizer.createDomain(spec, soon()), (error) => {
    assert.ok(error instanceof VmError, String(error));
    assert.match(
      error.message,
      /the image was changed while it was opened: it refers to .*os-release/,
    );
    assert.equal(error.code, 'job');
    return true;
  });
  assert.ok(swapped);
  assert.ok(!ground.told().includes('Guest started'));
  assert.deepEqual(await ground.leftovers(), []);
});
