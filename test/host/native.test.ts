import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { HostError } from '#host';
import { loadBytes, loadKoffi, loadNodePty } from '../../src/host/native/native.ts';
import { addonBytes } from '../support/addon.ts';
import { tmpDir } from '../support/tmp.ts';

for (const [name, load] of Object.entries({ koffi: loadKoffi, 'node-pty': loadNodePty })) {
  test(`from sources, ${name} comes out of node_modules, once`, () => {
    const exports = load();
    assert.ok(typeof exports === 'object' && exports !== null);
    assert.equal(load(), exports);
  });
}

test('V-132: no addon needs a newer glibc than Node itself, 2.28', () => {
  const ptyAddons = ['x64', 'arm64'].map((arch) =>
    readFileSync(new URL(import.meta.resolve(`node-pty/prebuilds/linux-${arch}/pty.node`))),
  );
  for (const bytes of [addonBytes(), ...ptyAddons]) {
    const text = Buffer.from(bytes).toString('latin1');
    const needed = [...text.matchAll(/GLIBC_2\.(\d+)/g)].map(([, minor]) => Number(minor));
    assert.ok(needed.length > 0 && Math.max(...needed) <= 28, `2.${Math.max(...needed)}`);
  }
});

test('V-132: an addon is loaded from its bytes, and nothing of it stays on disk', (t) => {
  const dir = tmpDir(t);
  const exports = loadBytes('koffi', addonBytes(), [dir]);
  assert.ok(typeof exports === 'object' && exports !== null && Object.keys(exports).length > 0);
  assert.deepEqual(readdirSync(dir), []);
  const maps = readFileSync('/proc/self/maps', 'utf8');
  assert.ok(maps.includes(`${dir}/nomad-driver-qmp-`), 'mapped from the file that is gone');
});

test('a directory that will not do is passed over for the next one', (t) => {
  const dir = tmpDir(t);
  writeFileSync(join(dir, 'file'), '');
  mkdirSync(join(dir, 'good'));
  const places = ['', 'relative', join(dir, 'missing'), join(dir, 'file'), join(dir, 'good')];
  assert.ok(loadBytes('koffi', addonBytes(), places));
  assert.deepEqual(readdirSync(dir).toSorted(), ['file', 'good']);
});

test('when no directory will do, the error names what was tried, and nothing stays', (t) => {
  const dir = tmpDir(t);
  const load = () => loadBytes('koffi', Buffer.from('no addon'), [dir, join(dir, 'missing')]);
  assert.throws(
    load,
    (error) =>
      error instanceof HostError &&
      /koffi/.test(error.message) &&
      /invalid ELF header|file too short/.test(error.message) &&
      /missing/.test(error.message),
  );
  assert.deepEqual(readdirSync(dir), []);
});
