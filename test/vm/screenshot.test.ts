import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { QmpClient } from '#qmp';
import { saveScreenshot, takeScreenshot } from '../../src/vm/control/screenshot.ts';
import { QmpServer, type Script } from '../support/qmp-server.ts';
import { tmpDir } from '../support/tmp.ts';
import { soon } from '../support/vm.ts';

const refuses: Script = ({ id }, peer) => peer.refuse(id, 'GenericError', 'no such console');
const writesNothing: Script = ({ id }, peer) => peer.answer(id);
const hasNoPng: Script = ({ id, arguments: asked }, peer) =>
  'format' in asked ? peer.refuse(id, 'GenericError', 'no PNG') : peer.answer(id);

const useless: Readonly<Record<string, readonly [Script, RegExp]>> = {
  'has no screen': [refuses, /^VmError: there is no screen to show.*\(.*no such console\)$/],
  'writes no picture': [writesNothing, /^VmError: what QEMU wrote is no PNG file$/],
  'was built without PNG': [hasNoPng, /^VmError: QEMU on this host can not write PNG files$/],
};

for (const [what, [answer, message]] of Object.entries(useless)) {
  test(`V-83: of a QEMU that ${what} there is no file, and it has none of ours afterwards`, async (t) => {
    const [dir, dataDir] = [tmpDir(t), tmpDir(t)];
    await using server = await QmpServer.start({
      script(command, peer) {
        if (command.execute === 'screendump') answer(command, peer);
        else peer.answer(command.id, command.execute === 'add-fd' ? { 'fdset-id': 4, fd: 9 } : {});
      },
    });
    await using qmp = await QmpClient.connect(server.path, soon());
    const saved = saveScreenshot(join(dir, 'screen.png'), { qmp, dataDir }, soon());
    await assert.rejects(saved, message);
    assert.deepEqual(readdirSync(dir), []);
    const last = server.peer.received.at(-1);
    assert.deepEqual([last?.execute, last?.arguments], ['remove-fd', { 'fdset-id': 4 }]);
  });
}

test('V-83: QEMU has no file of ours when the one who asked for a picture has gone', async () => {
  const gone = new AbortController();
  await using server = await QmpServer.start({
    script(command, peer) {
      if (command.execute === 'screendump') gone.abort();
      else peer.answer(command.id, command.execute === 'add-fd' ? { 'fdset-id': 4, fd: 9 } : {});
    },
  });
  await using qmp = await QmpClient.connect(server.path, soon());
  await assert.rejects(takeScreenshot(qmp, gone));
  const last = server.peer.received.at(-1);
  assert.deepEqual([last?.execute, last?.arguments], ['remove-fd', { 'fdset-id': 4 }]);
});
