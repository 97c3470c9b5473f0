import { globSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from './build.ts';
import { check, unprivileged } from './check.ts';
import { cloudInits } from './guests/cloud-init.ts';
import { guestImage, guestNames } from './guests/images.ts';
import { describeChange, hostState } from './host-state.ts';
import { runNomadTests } from './nomad-tests.ts';
import {
  add,
  formatTotals,
  nothing,
  PhaseError,
  phase,
  runNodeTests,
  type Selection,
  type Totals,
} from './phases.ts';
import { hasGo } from './setup/nomad-agent.ts';

// npm test                                         everything
// npm test -- root boot                            some of: check slow guests root boot debian nomad
// npm test -- --only Restart boot nomad            tests whose name matches
// npm test -- test/vm/line.test.ts                 one file, or several
// npm test -- --update test/vm/line.test.ts        with its snapshots written anew

const root = resolve(import.meta.dirname, '..');
const isRoot = process.getuid?.() === 0;
const wrapper = isRoot ? [join(root, 'scripts/isolated.sh')] : [];

const phases: Readonly<Record<string, (selection: Selection) => Promise<Totals>>> = {
  check,
  slow: (selection) => unprivileged('slow', selection),
  guests,
  root: (selection) => isolatedTests('root', selection),
  boot: (selection) => isolatedTests('boot', selection),
  debian: (selection) => isolatedTests('debian', selection, { concurrency: 1, fileSeconds: 600 }),
  nomad,
};

/**
 * All parts in their order. Side by side are parts that wait (for packages, for agents) and others, which are run one after
 * the other: first those that measure times, then the systems that keep a processor busy for minutes.
 */
const everything: readonly (readonly (readonly string[])[])[] = [
  [['check'], ['guests']],
  [['boot']],
  [['nomad'], ['slow', 'root', 'debian']],
];

/** What tests need that is built from packages: it is there before them, for they have no network to fetch packages from. */
async function guests(): Promise<Totals> {
  await phase('guest images', async () => {
    // Each waits for those that it is made from.
    await Promise.all([
      orSkip('cloud-init', () => cloudInits(console.log)),
      ...guestNames.map((name) => orSkip(`the ${name} guest`, () => guestImage(name, console.log))),
    ]);
  });
  return nothing;
}

async function orSkip(what: string, build: () => Promise<unknown>): Promise<void> {
  try {
    await build();
  } catch (error) {
    if (process.env.CI) throw error;
    console.log(`tests of ${what} will be skipped: ${String(error)}`);
  }
}

async function isolatedTests(
  kind: string,
  selection: Selection,
  { concurrency = 2, fileSeconds = 300 } = {},
): Promise<Totals> {
  const files = globSync(`test/${kind}/**/*.test.ts`, { cwd: root }).toSorted();
  return await phase(`${kind} tests`, () =>
    runNodeTests({
      files,
      concurrency,
      limitSeconds: { file: fileSeconds, all: 1800 },
      wrapper,
      selection,
    }),
  );
}

/** One file, in the namespaces that its folder's tests run in. */
async function fileTests(file: string, selection: Selection): Promise<Totals> {
  const isIsolated = /^test\/(root|boot|debian)\//.test(relative(root, resolve(file)));
  return await phase(file, () =>
    runNodeTests({
      files: [file],
      concurrency: 1,
      limitSeconds: { file: 300, all: 300 },
      wrapper: isIsolated ? wrapper : [],
      selection,
    }),
  );
}

async function nomad({ only = '.' }: Selection): Promise<Totals> {
  const why = hasGo() ? (isRoot ? undefined : 'they need root') : 'there is no go on PATH';
  if (why !== undefined) {
    if (process.env.CI) throw new PhaseError(`CI must run the Nomad tests: ${why}`);
    console.log(`\n=== Nomad tests: skipped, ${why}`);
    return nothing;
  }
  const plugin = await phase('build the executable', () => build());
  return await runNomadTests({ plugin, wrapper, only });
}

function isFile(name: string): boolean {
  return name.endsWith('.test.ts');
}

async function runPart(name: string, selection: Selection): Promise<Totals> {
  if (isFile(name)) return await fileTests(name, selection);
  const part = Object.hasOwn(phases, name) ? phases[name] : undefined;
  if (part === undefined) {
    const parts = Object.keys(phases).join(', ');
    throw new PhaseError(`is neither a file *.test.ts nor a part of the tests: ${parts}`);
  }
  return await part(selection);
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { only: { type: 'string' }, update: { type: 'boolean', default: false } },
});
const groups = positionals.length > 0 ? positionals.map((name) => [[name]]) : everything;
const wanted = groups.flat(2);
const begin = performance.now();
// A file is run while its author works on the host, which changes for other reasons.
const before = wanted.some(isFile) ? undefined : hostState();
const failures: string[] = [];
let totals = nothing;
async function runToEnd(name: string): Promise<void> {
  try {
    const own = await runPart(name, values);
    totals = add(totals, own);
  } catch (error) {
    failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    if (error instanceof PhaseError) totals = add(totals, error.totals);
  }
}
for (const group of groups) {
  await Promise.all(
    group.map(async (names) => {
      for (const name of names) await runToEnd(name);
    }),
  );
}
if (before !== undefined) {
  const changes = describeChange(before, hostState());
  failures.push(...changes.map((line) => `the host has changed: ${line}`));
}

console.log(
  `\n=== all of ${wanted.join(', ')} in ${((performance.now() - begin) / 1000).toFixed(0)} s`,
);
console.log(formatTotals(totals));
// Of a long log often only the end is kept.
for (const failure of totals.failures) console.log(`\n✖ ${failure}`);
for (const failure of failures) console.log(`# FAILED ${failure}`);
process.exitCode = failures.length > 0 ? 1 : 0;
