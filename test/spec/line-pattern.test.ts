import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { LineSearch, linePattern } from '../../src/spec/text/line-pattern.ts';

function isFound(pattern: string, ...pieces: readonly string[]): boolean {
  const search = new LineSearch(linePattern(pattern));
  return pieces.map((piece) => search.push(Buffer.from(piece))).at(-1) ?? false;
}

const cases: readonly (readonly [pattern: string, text: string, found: boolean])[] = [
  ['login:', 'debian login: ', true],
  ['login:', 'debian log\nin: ', false],
  ['^Ready$', 'x\r\nReady\r\n', true],
  ['^Ready$', 'Ready', false],
  ['^Ready$', 'Ready \n', false],
  ['^Ready', 'not Ready\n', false],
  ['^$', 'text\n\n', true],
  ['a.c', 'a\nc', false],
  ['a[^b]c', 'a\nc', false],
  ['[a-c]{2,3}[]x-]', 'bb-', true],
  ['[a-c]{2}x', 'bx', false],
  ['(one|two)+ (?:three)?done', 'onetwo done', true],
  ['(?i)READY in \\d+ s', 'Ready in 31 s', true],
  ['\\$\\.\\[', '$.[', true],
  ['grüß', 'viele grüße', true],
  ['x{3}', 'xx x', false],
  ['x{2,}y', 'xxxxy', true],
  ['x{ y', 'x{ y', true],
  ['', '', true],
];

for (const [pattern, text, found] of cases) {
  test(`/${pattern}/ ${found ? 'is' : 'is not'} in ${JSON.stringify(text)}`, () => {
    assert.equal(isFound(pattern, text), found);
    const bytes = Buffer.from(text);
    for (let at = 0; at <= bytes.length; at += 1) {
      const search = new LineSearch(linePattern(pattern));
      search.push(bytes.subarray(0, at));
      assert.equal(search.push(bytes.subarray(at)), found, `split at ${at}`);
    }
  });
}

test('any pattern finds what the language’s own engine finds', () => {
  const char = fc.constantFrom(
    'a',
    'b',
    '.',
    '[ab]',
    '[^a]',
    '\\d',
    '1',
    '(a|b1)',
    '(b|)',
    '(a.)*',
  );
  const part = fc.tuple(char, fc.constantFrom('', '', '', '*', '+', '?', '{2}', '{0,2}', '{1,}'));
  const repeatable = part.map(([atom, times]) => (atom.endsWith('*') ? atom : atom + times));
  const pattern = fc
    .array(
      fc.array(repeatable, { maxLength: 5 }).map((parts) => parts.join('')),
      { minLength: 1, maxLength: 3 },
    )
    .map((branches) => branches.join('|'));
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '1', '\n'), maxLength: 12 });
  void fc.assert(
    fc.property(pattern, text, (source, line) => {
      // The class of the language's own engine has the line feed.
      const own = new RegExp(source.replaceAll('[^a]', '[^a\\n]'));
      assert.equal(isFound(source, line), own.test(line));
    }),
    { numRuns: 2000 },
  );
});

for (const [pattern, problem] of [
  ['(a', /without its "\)"/],
  ['a)', /without its "\("/],
  ['a**', /repetition of a repetition/],
  ['*a', /repeats nothing/],
  ['[a', /ends in the middle/],
  ['a\\', /ends in the middle/],
  ['(a)\\1', /"\\1", which is not supported/],
  ['\\bready\\b', /"\\b", which is not supported/],
  ['(?=a)', /only "\(\?:"/],
  ['[[:alpha:]]', /"\[:alpha:\]", which is not supported/],
  ['[ü]', /only ASCII/],
  ['a{101}', /maximum of a repetition is 100/],
  ['((a{20}){20}){20}', /more than 250 steps/],
  ['a.{20}b', /too complex/],
  ['(a|b)*a(a|b){60}x', /too complex/],
  ['('.repeat(60) + ')'.repeat(60), /too many groups/],
  ['x'.repeat(1001), /longer than 1000 bytes/],
] as const) {
  test(`/${pattern.slice(0, 20)}/ is refused`, () => {
    assert.throws(() => linePattern(pattern), { name: 'SyntaxError', message: problem });
  });
}

for (const pattern of ['(a*)*b', '(a|a)*b', '(a?){30}b', '(.*a){9}b', '(a|aa)+b']) {
  test(`/${pattern}/ is searched for in 1 MiB that would keep a backtracking engine for ever`, () => {
    const search = new LineSearch(linePattern(pattern));
    assert.equal(search.push(Buffer.alloc(2 ** 20, 'a')), false);
    assert.equal(search.push(Buffer.from('b\n')), true);
  });
}
