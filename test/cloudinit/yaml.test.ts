import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { yamlShape } from '../../src/cloudinit/yaml.ts';
import { requireOrSkip } from '../support/require.ts';
import { text } from './request.ts';
import { yamlCases } from './yaml-cases.ts';

for (const [name, [verdict, yaml]] of Object.entries(yamlCases)) {
  test(`V-61: YAML ${verdict}: ${name}`, () => {
    const { problems } = yamlShape(yaml);
    const refused = verdict === 'refused' || verdict === 'refused all the same';
    assert.equal(problems.length > 0, refused, problems.join('; '));
    for (const problem of problems) assert.match(problem, /^line \d+: [^\n]{1,220}$/);
  });
}

// cloud-init's own loader is this one (safeyaml.py).
const loader = `
import sys, json, yaml
class Loader(yaml.SafeLoader): pass
Loader.add_constructor('tag:yaml.org,2002:python/unicode', yaml.SafeLoader.construct_scalar)
def shape(text):
  try: value = yaml.load(text, Loader=Loader)
  except Exception: return 'refused'
  if value is None: return 'empty'
  return {dict: 'mapping', list: 'list', set: 'list'}.get(type(value), 'scalar')
print(json.dumps([shape(text) for text in json.load(sys.stdin)]))
`;

import { patient } from '../support/patience.ts';

/** What PyYAML makes of texts; undefined where it is not installed. */
function inPython(t: TestContext, texts: readonly string[]): unknown {
  const input = JSON.stringify(texts);
  const options = { input, encoding: 'utf8', maxBuffer: 1 << 28 } as const;
  const run = spawnSync('/usr/bin/python3', ['-c', loader], options);
  if (run.status === 0) return JSON.parse(run.stdout);
  requireOrSkip(t, false, 'python3 with yaml is not installed');
  return undefined;
}

test('V-61: the table is that of PyYAML', (t) => {
  const cases = Object.entries(yamlCases);
  const found = inPython(
    t,
    cases.map(([, [, yaml]]) => yaml),
  );
  if (!Array.isArray(found)) return;
  const wrong = cases.flatMap(([name, [verdict]], index) => {
    const reads = verdict === 'taken' || verdict === 'refused all the same';
    return (found[index] !== 'refused') === reads ? [] : [name];
  });
  assert.deepEqual(wrong, []);
});

test('V-61: property: no text makes the YAML check throw, and every problem has a line of the text', () => {
  const pieces = [
    ...[
      'a',
      'b: ',
      '- ',
      ': ',
      '? ',
      ',',
      '[',
      ']',
      '{',
      '}',
      '"',
      "'",
      '|',
      '>-',
      '#',
      '\n',
      '\n  ',
    ],
    ...[
      '\r',
      '\t',
      ' ',
      '&x ',
      '*x',
      '<<: ',
      '!!str ',
      '!x ',
      '---',
      '\n...\n',
      '%YAML 1.1\n',
      '\\',
    ],
  ];
  const broken = fc.array(fc.constantFrom(...pieces), { maxLength: 30 }).map((it) => it.join(''));
  fc.assert(
    fc.property(fc.oneof(broken, text), (yaml) => {
      const lines = yaml.split(/\r\n|[\r\n]/).length;
      for (const problem of yamlShape(yaml, 5).problems) {
        const line = Number(/^line (\d+): /.exec(problem)?.[1]);
        assert.ok(line >= 5 && line <= 5 + lines, problem);
      }
    }),
    { numRuns: 2000 },
  );
});

test('V-61: what nests without end, or merges without end, is refused in words', () => {
  assert.match(
    yamlShape(`a: ${'['.repeat(200_000)}`).problems.join(),
    /^line 1: nesting exceeded maxDepth/,
  );
  const merges = `a: &x {b: 1}\n${'c: {<<: *x}\n'.repeat(1001)}`;
  assert.match(yamlShape(merges).problems.join(), /^line 1: more than 1000 merges/);
});

test('the line is the first that is neither blank nor a comment', () => {
  assert.equal(yamlShape('#cloud-config\n\n# c\n---\n- a\n').line, 5);
  assert.equal(yamlShape('#cloud-config\n').line, 1);
});

const MiB = 2 ** 20;
const fill = (piece: string): string => piece.repeat(Math.floor(MiB / Buffer.byteLength(piece)));
const numbered = (piece: (index: number) => string): string => {
  const parts: string[] = [];
  for (let bytes = 0, index = 0; bytes < MiB; index++) {
    parts.push(piece(index));
    bytes += piece(index).length;
  }
  return parts.join('');
};

// Each made some reader slow: quadratic, exponential, or out of stack.
const heavy: Readonly<Record<string, string>> = {
  'aliases of one anchor': `a: &x 1\nb:\n${fill('- *x\n')}`,
  'anchors and aliases': numbered((it) => `- &a${it} x\n- *a${it}\n`),
  'merges of merges': `b0: &b0 {x: 1}\n${numbered((it) => `b${it + 1}: &b${it + 1} {<<: [*b${it}, *b${it}]}\n`)}`,
  'lists of lists by alias': `b0: &b0 []\n${numbered((it) => `b${it + 1}: &b${it + 1} [*b${it}, *b${it}]\n`)}`,
  'a long list in brackets': `[${fill('1,')}]`,
  'a long mapping in brackets': `{${fill('a: 1,')}}`,
  'open brackets': fill('['),
  'open dashes': fill('- '),
  'lines ever further right': Array.from({ length: 1400 }, (_, it) => `${' '.repeat(it)}a:`).join(
    '\n',
  ),
  documents: fill('---\n'),
  'a plain text of many lines': `a: x${fill('\n x')}`,
  'a plain text of many blank lines': `a: x${fill('\n')}`,
  'a plain text of many colons': `a: ${fill(':a')}`,
  'a quoted text of escapes': `"${fill('\\n')}"`,
  'a quoted text of many lines': `"${fill('\n')}"`,
  'a literal text of many lines': `a: |\n${fill('  x\n')}`,
  'one digit after the other': `a: ${fill('1')}`,
  'base 60 without end': `a: 1${fill(':1')}`,
  'a tag of one MiB': `a: !${fill('x')}`,
  'keys in a line of brackets': fill(`- [${'a,'.repeat(400)}b]\n`),
  'undefined aliases': fill('- *x\n'),
};
for (const [name, yaml] of Object.entries(heavy)) {
  test(`V-61: one MiB of YAML takes seconds at worst: ${name}`, () => {
    const started = performance.now();
    yamlShape(yaml);
    // On an idle machine one second; where it is not linear, minutes and more.
    assert.ok(performance.now() - started < patient(20_000));
  });
}
