import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { QmpClient } from '#qmp';
import { backUp } from '../../src/vm/control/backup.ts';
import { newFile } from '../../src/vm/control/new-file.ts';
import { AgentLine } from '../../src/vm/guest/agent/agent-line.ts';
import { patient } from '../support/patience.ts';
import { QmpServer } from '../support/qmp-server.ts';
import { tmpDir } from '../support/tmp.ts';
import { collect } from '../support/vm.ts';

const MiB = 1024 * 1024;
const soon = () => ({ signal: AbortSignal.timeout(patient(10_000)) });
const disk = {
  kind: 'disk',
  id: 'disk-1',
  name: 'vdb',
  path: '/data/vdb.qcow2',
  format: 'qcow2',
  image: '',
} as const;

/** What a taken-over QEMU reports as the size of its disk. */
const sizes: Readonly<Record<string, readonly [size: number, problem: RegExp]>> = {
  'more than a disk may have': [2 ** 50, /are more than 8388608, the maximum of a disk/],
  'more than is counted': [2 ** 60, /virtual-size/],
  'less than nothing': [-(2 ** 50), /virtual-size/],
  'a fraction': [0.5, /virtual-size/],
};

test('V-55: a directory that is not there is named', async (t) => {
  const dir = tmpDir(t);
  await assert.rejects(newFile(join(dir, 'none/vdb.qcow2'), dir, soon()), {
    message: `there is no directory ${join(dir, 'none')}`,
  });
});

for (const [title, [size, problem]] of Object.entries(sizes)) {
  test(`V-55: a QEMU whose disk has ${title} gets no file, and no longer ones than before`, async (t) => {
    const node = { 'node-name': 'disk-1', file: '', image: { 'virtual-size': size } };
    await using server = await QmpServer.start({
      script: ({ id, execute }, peer) =>
        peer.answer(id, execute === 'query-named-block-nodes' ? [node] : {}),
    });
    await using qmp = await QmpClient.connect(server.path, soon());
    const dir = tmpDir(t);
    const grown: number[] = [];
    const backup = backUp(
      { disk, path: join(dir, 'vdb.qcow2'), speed: 0 },
      {
        qmp,
        agent: new AgentLine(''),
        log: collect([]),
        dataDir: tmpDir(t),
        maxDiskBytes: 8 * MiB,
        paths: { undo: join(tmpDir(t), 'undo'), backup: join(tmpDir(t), 'backup') },
        onFileGrowth: (bytes) => grown.push(bytes),
        report: () => {},
        emit: () => {},
      },
      soon(),
    );
    await assert.rejects(backup, { message: problem });
    assert.deepEqual([grown, readdirSync(dir)], [[], []]);
  });
}
