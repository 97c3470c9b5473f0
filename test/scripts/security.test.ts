import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { typescriptTitles } from '../../scripts/conformance.ts';

const root = resolve(import.meta.dirname, '../..');

/** Whether a title begins so; an ellipsis in it stands for any text. */
function begins(title: string, beginning: string): boolean {
  const text = title.replace(/^(?:(?:[PV]-|D-?|design-)\d+ ?)+: /, '');
  const [fixed = ''] = text.split('…', 1);
  return fixed.startsWith(beginning) || (fixed !== text && beginning.startsWith(fixed || '…'));
}

test('every test that docs/security.md names exists', () => {
  const document = readFileSync(join(root, 'docs/security.md'), 'utf8');
  const named = [...document.matchAll(/`([\w/-]+\.test\.ts)`(?:: ([^`|\n]+))?/g)];
  const missing = named.flatMap(([, file = '', titles = '']) => {
    const path = join(root, file.includes('/scripts/') ? file : `test/${file}`);
    if (!existsSync(path)) return [file];
    const present = typescriptTitles(readFileSync(path, 'utf8'));
    // Only a beginning that is cut short ends with an ellipsis; a whole title ends at the next file or column.
    const beginnings = titles.split(/ …(?:[,;] | \([^)]*\))?|; $/).map((it) => it.trim());
    return beginnings
      .filter((it) => it !== '' && !present.some((title) => begins(title, it)))
      .map((it) => `${file}: ${it}`);
  });
  assert.ok(named.length > 50, 'the document is read');
  assert.deepEqual(missing, []);
});
