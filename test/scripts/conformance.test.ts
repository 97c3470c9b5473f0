import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  conformancePath,
  formatConformance,
  goTitles,
  type Item,
  idsIn,
  namedTests,
  readItems,
  testsOf,
  typescriptTitles,
} from '../../scripts/conformance.ts';

const items = readItems().flatMap((it) => it.items);
const tests = namedTests();
const unproven = items.filter((item) => testsOf(item, tests).length === 0);

function number({ id }: Item): number {
  return Number(id.replace(/^\D+/, ''));
}

test('docs/conformance.md is what the titles of the tests give; npm run docs writes it', () => {
  assert.equal(readFileSync(conformancePath, 'utf8'), formatConformance());
});

test('every item of the protocol is proven', () => {
  const left = unproven.filter(({ id }) => id.startsWith('P-')).map(({ id }) => id);
  assert.deepEqual(left, []);
});

test('everything that the first driver could do is proven', () => {
  const first = unproven.filter(
    (item) => item.id.startsWith('V-') && item.marks.includes('S') && number(item) <= 138,
  );
  assert.deepEqual(
    first.map(({ id }) => id),
    [],
  );
});

test('every defect is shown to be absent, or stated to be impossible; so is every other item without a test', () => {
  const silent = unproven.filter(({ excuse }) => excuse === undefined);
  assert.deepEqual(
    silent.map(({ id }) => id),
    [],
  );
});

test('no test names an item that there is not', () => {
  const known = new Set(items.map(({ id }) => id));
  const wrong = tests.flatMap(({ file, title, ids }) =>
    ids.filter((id) => !known.has(id)).map((id) => `${file}: ${id} in "${title}"`),
  );
  assert.deepEqual(wrong, []);
});

test('titles are found as they are written', () => {
  assert.deepEqual(idsIn('V-33 D4: a link'), ['V-33', 'D4']);
  assert.deepEqual(idsIn('no item: V-1'), []);
  const template = ['`V-2: $', '{x}`'].join('');
  assert.deepEqual(
    typescriptTitles(`test('V-1: a', f);\nawait t.test(${template}, f);\n  'V-3 D5: a case': {\n`),
    ['V-1: a', 'V-2: …', 'V-3 D5: a case'],
  );
  assert.deepEqual(
    goTitles('// P-7: two lines\n// of words.\nfunc TestX(\nt.Run("V-9: sub", f)\nfunc TestP12_Y('),
    ['P-7: two lines of words.', 'P-12: TestP12_Y', 'V-9: sub'],
  );
});
