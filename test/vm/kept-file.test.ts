import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { lockFile } from '#host';
import { KeptFile } from '../../src/vm/store/kept-file.ts';
import { tmpDir } from '../support/tmp.ts';

const waiting = (ms = 5000) => ({ signal: AbortSignal.timeout(ms) });

const write =
  (text: string) =>
  async (fd: number): Promise<void> => {
    writeSync(fd, text);
  };

async function content(file: KeptFile): Promise<string | undefined> {
  const fd = await file.open();
  if (fd === undefined) return undefined;
  try {
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}

test('V-52: a file appears with its whole content, once, however many create it', async (t) => {
  const dir = tmpDir(t);
  const files = await Promise.all(Array.from({ length: 8 }, () => KeptFile.in(dir, 'data.raw')));
  await Promise.all(files.map((file, index) => file.create(write(`from ${index}`), waiting())));
  const contents = new Set(await Promise.all(files.map(content)));
  assert.equal(contents.size, 1);
  assert.match([...contents][0] ?? '', /^from \d$/);
  assert.deepEqual(readdirSync(dir), ['data.raw']);
  for (const file of files) file[Symbol.dispose]();
});

test('V-52 V-99: a creation that fails leaves nothing', async (t) => {
  const dir = tmpDir(t);
  using file = await KeptFile.in(dir, 'data.raw');
  await assert.rejects(
    file.create(() => Promise.reject(new Error('no space')), waiting()),
    /no space/,
  );
  assert.deepEqual(readdirSync(dir), []);
});

/** What a creation that was killed leaves: at its beginning, and at its end. */
const killed: Readonly<Record<string, readonly [(dir: string) => void, string]>> = {
  'a part of the content, under the temporary name': [
    (dir) => writeFileSync(join(dir, '.data.raw.new'), 'ha, longer than the whole'),
    'whole',
  ],
  'the whole content, under both names': [
    (dir) => {
      writeFileSync(join(dir, '.data.raw.new'), 'earlier');
      linkSync(join(dir, '.data.raw.new'), join(dir, 'data.raw'));
    },
    'earlier',
  ],
};

for (const [title, [leave, expected]] of Object.entries(killed)) {
  test(`V-52: after a killed creation that left ${title}, the disk is complete`, async (t) => {
    const dir = tmpDir(t);
    leave(dir);
    using file = await KeptFile.in(dir, 'data.raw');
    if ((await content(file)) === undefined) await file.create(write('whole'), waiting());
    assert.equal(await content(file), expected);
    assert.deepEqual(readdirSync(dir), ['data.raw']);
  });
}

test('V-52: a creation that goes on elsewhere is waited for, up to the deadline', async (t) => {
  const dir = tmpDir(t);
  using file = await KeptFile.in(dir, 'data.raw');
  await using _ = await lockFile(join(dir, '.data.raw.new'), waiting());
  await assert.rejects(file.create(write('whole'), waiting(100)), { name: 'TimeoutError' });
  assert.equal(await content(file), undefined);
});

/** What a task with the same directory may put in the place of a file that is about to be created. */
const planted: Readonly<Record<string, (temporary: string, other: string) => void>> = {
  'a file that every user may read and write': (temporary) => {
    writeFileSync(temporary, '');
    chmodSync(temporary, 0o666);
  },
  'a file of its own': (temporary) => {
    writeFileSync(temporary, '');
    if (process.getuid?.() === 0) chownSync(temporary, 1000, 1000);
    else chmodSync(temporary, 0o644);
  },
  'another name of a file': (temporary, other) => linkSync(other, temporary),
};

for (const [title, plant] of Object.entries(planted)) {
  test(`V-33: ${title}, planted under the temporary name, is not written to`, async (t) => {
    const dir = tmpDir(t);
    const other = join(dir, 'other');
    writeFileSync(other, 'of another', { mode: 0o600 });
    const temporary = join(dir, '.data.raw.new');
    plant(temporary, other);
    const opened = openSync(temporary, 'r');
    t.after(() => closeSync(opened));
    const before = readFileSync(opened, 'utf8');
    using file = await KeptFile.in(dir, 'data.raw');
    await file.create(write('secret'), waiting());
    assert.equal(await content(file), 'secret');
    assert.equal(readFileSync(other, 'utf8'), 'of another');
    const { mode, uid } = statSync(join(dir, 'data.raw'));
    assert.deepEqual({ mode: mode & 0o777, uid }, { mode: 0o600, uid: process.getuid?.() });
    assert.equal(readFileSync(`/proc/self/fd/${opened}`, 'utf8'), before);
    assert.deepEqual(readdirSync(dir).toSorted(), ['data.raw', 'other']);
  });
}

test('V-33: neither the name nor the temporary name leads out of the volume', async (t) => {
  const outside = join(tmpDir(t), 'secret');
  writeFileSync(outside, 'secret');
  for (const name of ['data.raw', '.data.raw.new']) {
    const dir = tmpDir(t);
    symlinkSync(outside, join(dir, name));
    using file = await KeptFile.in(dir, 'data.raw');
    await assert.rejects(async () => {
      await content(file);
      await file.create(write('whole'), waiting());
    }, /ELOOP|EXDEV|not a regular file/);
    assert.equal(readFileSync(outside, 'utf8'), 'secret');
  }
  using linked = await KeptFile.in(tmpDir(t), 'x');
  assert.ok(!existsSync(linked.path));
});
