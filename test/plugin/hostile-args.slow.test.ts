import assert from 'node:assert/strict';
import { test } from 'node:test';
import { optionKinds } from '../../src/plugin/args/options.ts';
import { answerTask, maxMs } from '../support/answer-task.ts';
import { type TaskInit, task } from './requests.ts';

const jobOf = (args: readonly string[], more: TaskInit = {}): TaskInit =>
  task({ config: { image_path: 'local/linux.img', args }, ...more });

const many = (count: number, words: (index: number) => readonly string[]): readonly string[] =>
  Array.from({ length: count }, (_, index) => words(index)).flat();

/** Values that patterns, and lists of keys, may take long for. */
const texts: Readonly<Record<string, (bytes: number) => string>> = {
  commas: (bytes) => ','.repeat(bytes),
  flags: (bytes) => 'a,'.repeat(bytes / 2),
  pairs: (bytes) => 'file=b,'.repeat(bytes / 7),
  colons: (bytes) => ':'.repeat(bytes),
  digits: (bytes) => '9'.repeat(bytes),
  slashes: (bytes) => `/vars${'/'.repeat(bytes)}`,
  'members of JSON': (bytes) => `{"a":[${'1,'.repeat(bytes / 2)}1]}`,
  'depth of JSON': (bytes) => `${'{"a":'.repeat(bytes / 6)}1${'}'.repeat(bytes / 6)}`,
};

for (const [kind, text] of Object.entries(texts)) {
  test(`V-136: half a MiB of ${kind} in any option of QEMU is answered at once`, () => {
    const value = text(2 ** 19);
    for (const { names, value: form } of optionKinds) {
      if (form === undefined) continue;
      const { ms, message } = answerTask(jobOf([`-${names[0]}`, value]), 'qemu');
      assert.ok(ms <= maxMs, `-${names[0]}: ${ms.toFixed(0)} ms`);
      assert.doesNotMatch(message, /call stack|internal/);
    }
  });
}

/** Options that belong together, so that each is looked for among all others. */
const lists: Readonly<Record<string, (count: number) => TaskInit>> = {
  'drives and their devices': (count) =>
    jobOf([
      ...many(count, (at) => ['-drive', `file=a,if=none,id=d${at}`]),
      ...many(count, (at) => ['-device', `virtio-blk-pci,drive=d${count - at}`]),
    ]),
  'networks and their cards': (count) =>
    jobOf([
      ...many(count, (at) => ['-netdev', `bridge,id=n${at},br=br0`]),
      ...many(count, (at) => ['-device', `e1000,netdev=n${count - at}`]),
    ]),
  'directories and their devices': (count) =>
    jobOf([
      ...many(count, (at) => ['-fsdev', `local,id=f${at},path=/local`]),
      ...many(count, (at) => ['-device', `virtio-9p-pci,fsdev=f${at},mount_tag=t${at}`]),
    ]),
  'forwarded ports': (count) =>
    jobOf(
      many(count / 500, () => ['-net', `user${',hostfwd=tcp::80-:1'.repeat(500)}`]),
      {
        resources: { ports: Array.from({ length: count }, (_, at) => ({ label: `p${at}` })) },
      },
    ),
  'ports by their labels': (count) =>
    task({
      config: {
        image_path: 'local/linux.img',
        port_map: [Object.fromEntries(Array.from({ length: count }, (_, at) => [`p${at}`, 80]))],
      },
      resources: { ports: Array.from({ length: count }, (_, at) => ({ label: `p${at}` })) },
    }),
};

for (const [kind, list] of Object.entries(lists)) {
  test(`V-136: thousands of ${kind} are answered at once`, () => {
    const { ms, message } = answerTask(list(5000), 'qemu');
    assert.ok(ms <= maxMs, `${ms.toFixed(0)} ms`);
    assert.match(message, /^qemu: invalid configuration/);
  });
}
