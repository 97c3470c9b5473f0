import assert from 'node:assert/strict';
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readArguments } from '../../src/plugin/serve/arguments.ts';
import { isOperatorCommand, runOperatorCommand } from '../../src/plugin/serve/operator-command.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const run = (...words: readonly string[]): Promise<string> =>
  runOperatorCommand('disk', words, () => {});
const screenshot = (...words: readonly string[]): Promise<string> =>
  runOperatorCommand('screenshot', words, () => {});

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

test('V-54: a user who is not root is asked to be root', async (t) => {
  if (!requireOrSkip(t, process.geteuid?.() === 0, 'needs root: becomes another user')) return;
  const dir = tmpDir(t);
  mkdirSync(join(dir, 'vms'), { mode: 0o700 });
  chmodSync(dir, 0o711);
  const ask = () => run('resize', 'abcd/vm', 'vda', '1GiB', '--data-dir', dir);
  // As root first: the other user may not read the modules that this loads.
  await assert.rejects(ask(), { message: /there is no VM of abcd\/vm/ });
  process.seteuid?.(65_534);
  try {
    await assert.rejects(ask(), { message: /vms is open to root only: run this as root$/ });
  } finally {
    process.seteuid?.(0);
  }
});

const noPicture: Readonly<Record<string, readonly string[]>> = {
  'no file': ['abcd/vm'],
  'one word too many': ['abcd/vm', 'a.png', 'b.png'],
  'a file of another kind': ['abcd/vm', 'screen.ppm'],
  'a file without a name': ['abcd/vm', '/srv/.png'],
  'a limit': ['abcd/vm', 'a.png', '--limit', '1MiB'],
};

for (const [title, words] of Object.entries(noPicture)) {
  test(`V-83: a screenshot command with ${title} is an error that has the right form`, async () => {
    const message = /write nomad-driver-qmp screenshot ALLOC\/TASK FILE\.png/;
    await assert.rejects(screenshot(...words), { code: 'invalid', message });
  });
}

test('V-141: an operator’s command is known by its first word, and every other one is an argument of the plugin', () => {
  assert.deepEqual(['disk', 'screenshot', '--help', 'toString', undefined].map(isOperatorCommand), [
    true,
    true,
    false,
    false,
    false,
  ]);
});

test('V-141: a word that is no command is named, with what there is', () => {
  assert.throws(() => readArguments(['dsk', 'resize'], 'nomad-driver-qmp'), {
    code: 'invalid',
    message: /^"dsk" is not known: the arguments are --driver-name NAME, .*disk and screenshot$/,
  });
});
