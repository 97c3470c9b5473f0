import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type DiskSpec, primaryDisk } from '#spec';
import { openImage } from '../../src/image/open-image.ts';
import { isInPlace } from '../../src/vm/disks/in-place.ts';

test('V-136: only an image in the task’s own directories is written in place, by no link and no second name', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'in-place-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const [own, images] = [join(dir, 'task'), join(dir, 'images')];
  for (const path of [own, images, join(own, 'local')]) mkdirSync(path);
  for (const path of [join(own, 'local/own.img'), join(images, 'base.img')]) {
    writeFileSync(path, Buffer.alloc(512, 1));
  }
  symlinkSync(join(images, 'base.img'), join(own, 'local/link.img'));
  symlinkSync(images, join(own, 'local/dir'));
  const roots = { trusted: [images], task: [own], relativeTo: [own] };
  const unstated: DiskSpec = { ...primaryDisk({ image: 'x', thin: true }), inPlace: true };
  const wanted: DiskSpec = { ...unstated, source: { kind: 'image', image: 'x', format: 'raw' } };
  const judge = async (name: string, spec = wanted) => {
    using image = await openImage(name, roots, { maxVirtualBytes: 1024 }, { signal: t.signal });
    return isInPlace(spec, image, roots);
  };
  assert.equal(await judge('local/own.img'), true);
  assert.equal(await judge('local/own.img', { ...wanted, inPlace: false }), false);
  // The guest of a raw disk may make another format of it.
  assert.equal(await judge('local/own.img', unstated), false);
  assert.equal(await judge('local/link.img'), false);
  assert.equal(await judge('local/dir/base.img'), false);
  assert.equal(await judge(join(images, 'base.img')), false);
});
