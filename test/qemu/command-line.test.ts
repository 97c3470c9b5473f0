import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { commandLine, type Part, type Platform, QemuError } from '#qemu';
import { blockdev, option, optionText } from '../../src/qemu/part.ts';

const platform: Platform = {
  name: 'web',
  uuid: '00000000-0000-8000-8000-000000000000',
  serial: 'alloc',
  machine: { type: 'pc-q35-7.2', family: 'q35', accelerator: 'tcg', cpu: 'max', tbSizeMiB: 32 },
  vcpus: 1,
  memoryMiB: 64,
};

const disk = (id: string): Part => ({
  id,
  files: [
    { role: id, as: { set: id } },
    { role: `${id}-read`, as: { set: id } },
  ],
  options: (at) => [blockdev({ 'node-name': id, filename: at.path(id) })],
});
const channel = (id: string): Part => ({
  id,
  files: [{ role: id, as: 'fd' }],
  options: (at) => [option('chardev', `socket,id=${id},fd=${at.fd(id)}`)],
});

test('P-25: no text can end a value in an option of QEMU', () => {
  assert.equal(optionText('a,id=x'), 'a,,id=x');
  const plain = fc.string({ unit: 'grapheme' }).filter((it) => !it.includes('\0'));
  fc.assert(
    fc.property(plain, (name) => {
      const text = optionText(name);
      // As QEMU reads it: a comma with a comma behind it is one, one alone would end the value.
      assert.doesNotMatch(text, /(?<!,)(?:,,)*,(?!,)/);
      assert.equal(text.replaceAll(',,', ','), name);
    }),
  );
  assert.throws(() => optionText('a\0b'), QemuError);
});

test('numbers of descriptors and of sets, and the block nodes, follow from the parts', () => {
  const line = commandLine(platform, [channel('qmp'), disk('one'), channel('tap0'), disk('two')]);
  assert.deepEqual(line.files, ['qmp', 'one', 'one-read', 'tap0', 'two', 'two-read']);
  assert.deepEqual([...line.nodes], ['one', 'two']);
  const text = line.argv.join(' ');
  assert.match(text, /socket,id=qmp,fd=3 .*socket,id=tap0,fd=6 /);
  for (const set of [
    'fd=4,set=1,opaque=one',
    'fd=5,set=1,opaque=one-read',
    'fd=7,set=2,opaque=two',
    'fd=8,set=2,opaque=two-read',
  ]) {
    assert.ok(line.argv.includes(set), `${set} in ${text}`);
  }
  assert.ok(line.argv.includes('{"node-name":"two","filename":"/dev/fdset/2"}'), text);
});

test('guest memory is shared where one part needs it', () => {
  const shared: Part = { ...channel('share0'), sharedMemory: true };
  assert.match(
    commandLine(platform, [shared]).argv.join(' '),
    /memory-backend-memfd.*"share":true/,
  );
  assert.doesNotMatch(commandLine(platform, [channel('a')]).argv.join(' '), /memfd|"share"/);
});

test('a part or a file that is there twice, and a file that no part has, are bugs', () => {
  assert.throws(() => commandLine(platform, [disk('a'), disk('a')]), /two parts .* called a/);
  const thief: Part = { ...channel('b'), files: [{ role: 'a', as: 'fd' }] };
  assert.throws(() => commandLine(platform, [channel('a'), thief]), /called a/);
  const lost: Part = { id: 'x', files: [], options: (at) => [option('x', at.path('y'))] };
  assert.throws(() => commandLine(platform, [lost]), /no part has a file y/);
  const bare: Part = { ...channel('c'), options: (at) => [option('x', at.path('c'))] };
  assert.throws(() => commandLine(platform, [bare]), /file c is in no set/);
});
