import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runDiskCommand } from '../../src/plugin/serve/disk-command.ts';
import { tmpDir } from '../support/tmp.ts';

const run = (...words: readonly string[]): Promise<string> => runDiskCommand(words, () => {});

const wrong: Readonly<Record<string, readonly [readonly string[], RegExp]>> = {
  'an unknown verb': [['shrink', 'abcd/vm', 'vda', '1GiB'], /write nomad-driver-qmp disk resize/],
  'no size': [['resize', 'abcd/vm', 'vda'], /write nomad-driver-qmp disk resize/],
  'one word too many': [['resize', 'abcd/vm', 'vda', '1', 'GiB'], /write nomad-driver-qmp/],
  'what is no size': [['resize', 'abcd/vm', 'vda', '1 elephant'], /"1 elephant" is not a size/],
  'a size of zero': [['resize', 'abcd/vm', 'vda', '0'], /"0" is not a size/],
  'a limit of what has none': [
    ['resize', 'abcd/vm', 'vda', '1GiB', '--limit', '1MiB'],
    /write nomad-driver-qmp disk resize/,
  ],
  'a limit that is none': [['backup', 'abcd/vm', 'vda', '/f', '--limit', 'x'], /"x" is not a size/],
  'what is no allocation': [['resize', '../vm', 'vda', '1GiB'], /"\.\.\/vm" is not the id of an/],
  'an unknown option': [['resize', '--force'], /these arguments are not valid/],
};

for (const [title, [words, expected]] of Object.entries(wrong)) {
  test(`V-54: a disk command with ${title} is an error that has the right form`, async () => {
    await assert.rejects(run(...words), { code: 'invalid', message: expected });
  });
}

test('V-54: a VM that is not there is named, and where it was looked for', async (t) => {
  const asked = run('resize', 'abcd/vm', 'vda', '1GiB', '--data-dir', tmpDir(t));
  await assert.rejects(asked, { message: /there are no VMs in .*--data-dir is data_dir/ });
});
