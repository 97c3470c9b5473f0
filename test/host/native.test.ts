import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { HostError } from '#host';
import { loadBytes, loadNative } from '../../src/host/native/native.ts';
import { tmpDir } from '../support/tmp.ts';

/** The bytes of netlink's addon, as a single executable would carry them. */
function addonBytes(): Uint8Array {
  const manifest = createRequire(import.meta.url).resolve('netlink/package.json');
  return readFileSync(join(dirname(manifest), `prebuilds/linux-${process.arch}/node.napi.node`));
}

test('from sources, native parts come out of node_modules, once', () => {
  for (const name of ['koffi', 'netlink'] as const) {
    const native = loadNative(name);
    assert.ok(typeof native === 'object' && native !== null, name);
    assert.equal(loadNative(name), native);
  }
});

test('V-132: an addon is loaded from its bytes, and nothing of it stays on disk', (t) => {
  const dir = tmpDir(t);
  const exports = loadBytes('netlink', addonBytes(), [dir]);
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
  assert.ok(loadBytes('netlink', addonBytes(), places));
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
