import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { findProgram } from '#host';
import { tmpDir } from '../support/tmp.ts';

test('programs: $PATH comes before the further directories, and those before the usual ones', (t) => {
  const dir = tmpDir(t);
  for (const name of ['first', 'second', 'further']) mkdirSync(join(dir, name));
  const [first, second, further] = ['first', 'second', 'further'].map((name) => join(dir, name));
  const path = `${first}:${second}`;
  const find = (name: string): string | undefined => findProgram(name, [further ?? ''], path);
  for (const file of [`${second}/tool`, `${further}/tool`, `${further}/sh`]) {
    writeFileSync(file, '', { mode: 0o755 });
  }
  assert.equal(find('tool'), `${second}/tool`);
  writeFileSync(`${first}/tool`, '', { mode: 0o755 });
  assert.equal(find('tool'), `${first}/tool`);
  assert.equal(find('sh'), `${further}/sh`);
  assert.match(findProgram('sh', [], path) ?? '', /^\/(usr\/)?s?bin\/sh$/);
});

test('programs: what is not an executable file is passed over, and so is a relative directory', (t) => {
  const dir = tmpDir(t);
  mkdirSync(join(dir, 'folder-of-no-program'));
  writeFileSync(join(dir, 'text-of-no-program'), '', { mode: 0o644 });
  writeFileSync(join(dir, 'relative-program'), '', { mode: 0o755 });
  assert.equal(findProgram('folder-of-no-program', [], dir), undefined);
  assert.equal(findProgram('text-of-no-program', [], dir), undefined);
  const relative = dir.slice(1).replace(/[^/]+/g, '..') + dir;
  assert.equal(findProgram('relative-program', [relative, '.'], `${relative}:.`), undefined);
  assert.equal(findProgram('relative-program', [], dir), join(dir, 'relative-program'));
});
