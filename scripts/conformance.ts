import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

// npm run docs                         writes docs/conformance.md
// node scripts/conformance.ts --list   one line per item that no test names

const root = resolve(import.meta.dirname, '..');
export const conformancePath = join(root, 'docs/conformance.md');

export interface Item {
  readonly id: string;
  /** Where the requirement comes from: some of S, M, F, I, Q; '-' for the protocol. */
  readonly marks: readonly string[];
  readonly text: string;
  /** Why no test names it. */
  readonly excuse: string | undefined;
  /** What of it is not implemented although tests name it. */
  readonly limit: string | undefined;
}

export interface NamedTest {
  readonly file: string;
  readonly title: string;
  readonly ids: readonly string[];
}

const sections = [
  { file: 'protocol.txt', title: 'The plugin protocol' },
  { file: 'driver.txt', title: 'The driver' },
  { file: 'defects.txt', title: 'Defects that must be absent' },
] as const;

/** The items of one list. Throws for a line that is not an item. */
export function parseItems(text: string): readonly Item[] {
  const items: Item[] = [];
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const [, sign, note] = /^([!~]) (.+)$/.exec(line) ?? [];
    const last = items.pop();
    if (sign !== undefined && last !== undefined) {
      items.push({ ...last, [sign === '!' ? 'excuse' : 'limit']: note });
      continue;
    }
    if (last !== undefined) items.push(last);
    const [, id, marks, text] = /^([PV]-\d+|D\d+) ((?:[SMFIQ] )+|- )(\S.*)$/.exec(line) ?? [];
    if (id === undefined || text === undefined) throw new Error(`not an item: ${line}`);
    const letters = (marks ?? '').trim().split(' ');
    items.push({ id, marks: letters, text, excuse: undefined, limit: undefined });
  }
  return items;
}

export function readItems(): readonly {
  readonly title: string;
  readonly items: readonly Item[];
}[] {
  return sections.map(({ file, title }) => ({
    title,
    items: parseItems(readFileSync(join(root, 'scripts/conformance', file), 'utf8')),
  }));
}

/** Every test of the project whose title names an item. */
export function namedTests(): readonly NamedTest[] {
  return [
    ...collect('test/**/*.test.ts', typescriptTitles),
    ...collect('test/nomad/*_test.go', goTitles),
  ];
}

function collect(pattern: string, titlesOf: (text: string) => readonly string[]): NamedTest[] {
  return globSync(pattern, { cwd: root })
    .toSorted()
    .flatMap((file) => {
      const titles = [...new Set(titlesOf(readFileSync(join(root, file), 'utf8')))];
      return titles.map((title) => ({ file, title, ids: idsIn(title) }));
    })
    .filter(({ ids }) => ids.length > 0);
}

/** `P-17: …`, `V-33 D4: …`: what stands before the first colon. */
export function idsIn(title: string): readonly string[] {
  const [head = ''] = title.split(/:(?:\s|$)/, 1);
  return [...head.matchAll(/\b([PV])-(\d+)\b|\b(D)-?(\d+)\b/g)].map(
    ([, room, number, d, defect]) => (d === undefined ? `${room}-${number}` : `D${defect}`),
  );
}

/**
 * First arguments of `test`, `t.test` and the like, with an ellipsis for each expression of a template; and the names
 * of cases in a table, which are keys that begin with an id.
 */
export function typescriptTitles(text: string): readonly string[] {
  const calls =
    /\b(?:test|it|describe)(?:\.\w+)?\(\s*(?:'((?:[^'\\]|\\.)*)'|`((?:[^`\\]|\\.)*)`|"([^"]*)")/g;
  const titles = [...text.matchAll(calls)].map(([, plain, template, quoted]) =>
    (plain ?? template ?? quoted ?? '')
      .replaceAll(/\$\{(?:[^{}]|\{[^}]*\})*\}/g, '…')
      .replaceAll("\\'", "'"),
  );
  const cases = /^\s*'((?:[PV]-\d+|D\d+)[^'\n]*: [^'\n]+)':/gm;
  return [...titles, ...[...text.matchAll(cases)].map(([, title = '']) => title)];
}

/** Test functions with the comment above them, and strings that begin with an id, as sub-tests have them. */
export function goTitles(text: string): readonly string[] {
  const functions = /((?:^\/\/.*\n)*)^func (Test\w+)\(/gm;
  const named = [...text.matchAll(functions)].map(([, comment = '', name = '']) => {
    const description = comment
      .replaceAll(/^\/\/ ?/gm, '')
      .trim()
      .replaceAll('\n', ' ');
    const own = /^Test([PVD])(\d+)_/.exec(name);
    const id = own === null ? '' : own[1] === 'D' ? `D${own[2]}` : `${own[1]}-${own[2]}`;
    if (idsIn(description).length > 0) return description;
    return `${id}: ${description || name}`;
  });
  const strings = [...text.matchAll(/"((?:[PV]-\d+|D\d+)[^"\n]*: [^"\n]+)"/g)];
  return [...named, ...strings.map(([, title = '']) => title)];
}

/** The whole document. */
export function formatConformance(): string {
  const tests = namedTests();
  const parts = readItems().map(({ title, items }) => {
    const rows = items.map((item) => formatRow(item, testsOf(item, tests)));
    return `## ${title}\n\n| | | what | tests |\n| --- | --- | --- | --- |\n${rows.join('\n')}\n`;
  });
  const all = readItems().flatMap(({ items }) => items);
  const proven = all.filter((item) => testsOf(item, tests).length > 0).length;
  return `${intro(proven, all.length)}\n${parts.join('\n')}`;
}

function intro(proven: number, all: number): string {
  return `# Conformance

Made by \`npm run docs\` from the titles of the tests and from \`scripts/conformance/*.txt\`; do not edit.
${proven} of ${all} items are named by at least one test. "not yet" gives the reason where no test names an item.

The second column names where an item comes from: S the first public nomad-driver-virt, M its later releases, F a defect
there that is to be absent here, I an open wish of users, Q Nomad's builtin qemu driver.
`;
}

export function testsOf(item: Item, tests: readonly NamedTest[]): readonly NamedTest[] {
  return tests.filter(({ ids }) => ids.includes(item.id));
}

function formatRow(item: Item, tests: readonly NamedTest[]): string {
  const files = [...new Set(tests.map(({ file }) => file))];
  const shown = files.map((file) => {
    const titles = tests.filter((test) => test.file === file).map(({ title }) => bare(title));
    return `[${file.replace(/^test\//, '')}](../${file}): ${titles.join('; ')}`;
  });
  const proof =
    shown.length > 0 ? shown.join('<br>') : `not yet: ${item.excuse ?? 'no test names it'}`;
  const limit = item.limit === undefined ? '' : ` *(${item.limit})*`;
  const marks = item.marks.filter((mark) => mark !== '-').join(' ');
  return `| ${item.id} | ${marks} | ${cell(item.text)}${limit} | ${cell(proof)} |`;
}

function bare(title: string): string {
  return title.replace(/^[^:]*:\s*/, '') || title;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<8hex>', '&lt;8hex&gt;');
}

/** Returns the path of the file. */
export function writeConformance(): string {
  writeFileSync(conformancePath, formatConformance());
  return conformancePath;
}

if (import.meta.main) {
  if (process.argv.includes('--list')) {
    const tests = namedTests();
    for (const item of readItems().flatMap(({ items }) => items)) {
      if (testsOf(item, tests).length > 0) continue;
      console.log(`${item.id} ${item.marks.join('')} ${item.text} -> ${item.excuse ?? '???'}`);
    }
  } else {
    console.log(writeConformance());
  }
}
