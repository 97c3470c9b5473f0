import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { ImageStore } from '#image';
import { Networks } from '#net';
import type { DiskSource, UserData, VmSpec } from '#spec';
import { problemsOf } from '../../src/vm/start/check.ts';
import { fakeEmulator } from '../support/fake-emulator.ts';
import { closedAgain, openFds } from '../support/open-files.ts';
import { tmpDir } from '../support/tmp.ts';
import { smallestSpec } from '../support/vm.ts';

function hostOf(t: TestContext): {
  readonly taskDir: string;
  problems(image: string, userData?: UserData, change?: Partial<VmSpec>): Promise<string[]>;
} {
  const root = tmpDir(t);
  const taskDir = join(root, 'alloc/task');
  mkdirSync(join(taskDir, 'local'), { recursive: true });
  writeFileSync(join(taskDir, 'local/disk.img'), Buffer.alloc(1024));
  writeFileSync(join(taskDir, 'local/empty.img'), '');
  const host = {
    dataDir: join(root, 'data'),
    runDir: join(root, 'run'),
    imagePaths: [],
    maxImageBytes: 2 ** 40,
    pools: { pools: [], default: undefined },
    images: new ImageStore({ dir: join(root, 'data/image-store'), maxBytes: 0, log }),
    uidRange: { min: 1, max: 2 },
    networks: Networks.open({
      stateDir: join(root, 'networks'),
      managed: [],
      bridges: ['br0'],
      nft: 'nft',
      maxConnections: 8192,
      log,
    }),
  };
  fakeEmulator(t);
  return {
    taskDir,
    problems: async (image, userData, change = {}) => {
      const base = smallestSpec(image, taskDir, change);
      const spec = { ...base, guest: { ...base.guest, userData } };
      const waiting = { signal: AbortSignal.timeout(5000) };
      const found = await problemsOf(spec, host, waiting);
      return found.map(({ message }) => message.replaceAll(root, ''));
    },
  };
}

test('V-19 D27: every problem of a file begins with the key that names it, and all are found at once', async (t) => {
  const { problems } = hostOf(t);
  const file = (path: string): UserData => ({ kind: 'file', path });
  assert.deepEqual(await problems('local/disk.img'), []);
  const [image = '', userData = '', ...more] = await problems('/etc/shadow', file('/etc/shadow'), {
    machine: 'isapc',
  });
  assert.match(image, /^image: \/etc\/shadow is not inside the allowed directories/);
  assert.match(userData, /^user_data: \/etc\/shadow is not inside the allowed directories/);
  assert.match(more.join(), /^os\.machine "isapc" is not .*, pc-q35-7\.2, /);
  assert.deepEqual(await problems('local/none.img', file('local/none')), [
    'image: there is no file local/none.img in /alloc/task',
    'user_data: there is no file local/none in /alloc/task',
  ]);
  assert.deepEqual(await problems('local/disk.img', file('packages: [nginx]')), [
    'user_data (one line that does not begin with "#" is the path of a file): there is no file packages: [nginx] in /alloc/task',
  ]);
  const network = { guest: { ...smallestSpec('', '').guest, networkConfig: file('version: 2') } };
  assert.deepEqual(await problems('local/disk.img', undefined, network), [
    'network_config (one line that does not begin with "{" is the path of a file): there is no file version: 2 in /alloc/task',
  ]);
  assert.deepEqual(await problems('local/empty.img'), [
    'image: /alloc/task/local/empty.img is refused: it is empty',
  ]);
});

test('V-59 V-61: user data in base64 is unpacked, in a job and in a file, and its mistakes are found', async (t) => {
  const { problems, taskDir } = hostOf(t);
  const wrong = Buffer.from('#cloud-config\na: [\n');
  for (const bytes of [wrong, gzipSync(wrong)]) {
    const text = bytes.toString('base64');
    writeFileSync(join(taskDir, 'local/packed'), `${text}\n`);
    for (const given of [
      { kind: 'inline', text },
      { kind: 'file', path: 'local/packed' },
    ] as const) {
      assert.match((await problems('local/disk.img', given)).join(), /^user_data: line 3: /);
    }
  }
  const good = Buffer.from('#!/bin/sh\necho something\n').toString('base64');
  assert.deepEqual(await problems('local/disk.img', { kind: 'inline', text: good }), []);
});

test('V-61: user data of any kind passes where the job switches the check off', async (t) => {
  const { problems } = hostOf(t);
  const given = { kind: 'inline', text: 'of\nno: kind: at all\n' } as const;
  assert.match((await problems('local/disk.img', given)).join(), /^user_data: line 1: /);
  assert.deepEqual(await problems('local/disk.img', { ...given, check: false }), []);
});

const silent = (): void => {};
const log = { trace: silent, debug: silent, info: silent, warn: silent, error: silent };

test('V-35: what a job states about an image is true, or the disk is refused', async (t) => {
  const { problems, taskDir } = hostOf(t);
  const image = 'local/disk.img';
  const [base] = smallestSpec(image, '/').disks;
  assert.ok(base);
  const withSource = (more: Partial<Extract<DiskSource, { kind: 'image' }>>) =>
    problems(image, undefined, {
      disks: [{ ...base, block: 1, source: { kind: 'image', image, ...more } }],
    });
  assert.deepEqual(await withSource({ format: 'raw' }), []);
  const before = await openFds();
  assert.deepEqual(await withSource({ format: 'qcow2' }), [
    'disk[1].source.format: /alloc/task/local/disk.img is raw, not qcow2',
  ]);
  await closedAgain(before);
  assert.deepEqual(await withSource({ member: 'a' }), [
    'disk[1].source.member: /alloc/task/local/disk.img is no archive, so it has no file a',
  ]);
  await closedAgain(before);
  writeFileSync(join(taskDir, 'local/disk.img.gz'), gzipSync(Buffer.alloc(512)));
  // What is in it is known after the import, which is none of the check.
  const packed = { image: 'local/disk.img.gz', format: 'qcow2', member: 'a' } as const;
  assert.deepEqual(await withSource(packed), []);
  await closedAgain(before);
});

test('a look for problems leaves no descriptor behind', async (t) => {
  const { problems } = hostOf(t);
  await problems('local/disk.img');
  const before = await openFds();
  assert.deepEqual(await problems('local/disk.img'), []);
  assert.equal((await problems('local/disk.img', { kind: 'file', path: '/etc/none' })).length, 1);
  await closedAgain(before);
});

test('V-140: a network that this agent does not allow is a problem before an image is copied for it', async (t) => {
  const { problems } = hostOf(t);
  const nics = [
    { kind: 'bridge', bridge: 'br0', ports: [] },
    { kind: 'bridge', bridge: 'other0', ports: [] },
    { kind: 'macvtap', device: 'eno1', mode: 'bridge', ports: [] },
    { kind: 'user', ports: [] },
  ] as const;
  const found = await problems('local/none.img', undefined, { nics });
  assert.deepEqual(
    found.map((text) => text.split(' ').slice(0, 4).join(' ')),
    ['image: there is no', 'bridge other0 is not', 'device eno1 is not'],
  );
});
