import { globSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from './build.ts';
import { check } from './check.ts';
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
  type Totals,
} from './phases.ts';
import { hasGo } from './setup/nomad-agent.ts';

// npm test                                everything
// npm test -- root boot                   some of: check guests root boot nomad
// npm test -- --only Restart nomad        Go tests whose name matches

const root = resolve(import.meta.dirname, '..');
const isRoot = process.getuid?.() === 0;
const wrapper = isRoot ? [join(root, 'scripts/isolated.sh')] : [];

const phases: Readonly<Record<string, (only: string) => Promise<Totals>>> = {
  check,
  guests,
  root: () => nodeTests('root'),
  boot: () => nodeTests('boot'),
  nomad,
};

/** Guests are built before the tests that boot them, for those have no network to fetch packages from. */
async function guests(): Promise<Totals> {
  await phase('guest images', async () => {
    for (const name of guestNames) {
      try {
        await guestImage(name, console.log);
      } catch (error) {
        if (process.env.CI) throw error;
        console.log(`tests of the ${name} guest will be skipped: ${String(error)}`);
      }
    }
  });
  return nothing;
}

async function nodeTests(kind: string): Promise<Totals> {
  const files = globSync(`test/${kind}/**/*.test.ts`, { cwd: root }).toSorted();
  return await phase(`${kind} tests`, () =>
    runNodeTests({ files, concurrency: 2, limitSeconds: { file: 300, all: 1200 }, wrapper }),
  );
}

async function nomad(only: string): Promise<Totals> {
  const why = hasGo() ? (isRoot ? undefined : 'they need root') : 'there is no go on PATH';
  if (why !== undefined) {
    if (process.env.CI) throw new PhaseError(`CI must run the Nomad tests: ${why}`);
    console.log(`\n=== Nomad tests: skipped, ${why}`);
    return nothing;
  }
  const plugin = await phase('build the executable', () => build());
  return await runNomadTests({ plugin, wrapper, only });
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { only: { type: 'string', default: '.' } },
});
const wanted = positionals.length > 0 ? positionals : Object.keys(phases);
const begin = performance.now();
const before = hostState();
const failures: string[] = [];
let totals = nothing;
for (const name of wanted) {
  try {
    const part = phases[name];
    if (part === undefined) throw new PhaseError(`no such part of the tests: ${name}`);
    totals = add(totals, await part(values.only));
  } catch (error) {
    failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    if (error instanceof PhaseError) totals = add(totals, error.totals);
  }
}
failures.push(
  ...describeChange(before, hostState()).map((line) => `the host has changed: ${line}`),
);

console.log(
  `\n=== all of ${wanted.join(', ')} in ${((performance.now() - begin) / 1000).toFixed(0)} s`,
);
console.log(formatTotals(totals));
for (const failure of failures) console.log(`# FAILED ${failure}`);
process.exitCode = failures.length > 0 ? 1 : 0;
