import { globSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { PhaseError, phase, run, runNodeTests, type Selection, type Totals } from './phases.ts';

const root = resolve(import.meta.dirname, '..');

/**
 * Tests that need neither root nor QEMU: those of the rooms, and those about the sources themselves. The slow ones take
 * more than three seconds of processor time each, mostly for processes of the plugin and for images of their own.
 */
export function unprivilegedTests(speed: 'fast' | 'slow'): string[] {
  const others = /^test\/(root|boot|debian|nomad|support)\//;
  return globSync('test/**/*.test.ts', { cwd: root })
    .filter((path) => !others.test(path) && path.endsWith('.slow.test.ts') === (speed === 'slow'))
    .map((path) => join(root, path))
    .toSorted();
}

/** Everything that can be checked within a minute, cheapest first. */
export async function check(selection: Selection = {}): Promise<Totals> {
  await phase('format', () => run('biome', ['format', '.'], { cwd: root }));
  await phase('lint', () =>
    run('biome', ['check', '--formatter-enabled=false', '.'], { cwd: root }),
  );
  await phase('types', () => run('tsc', ['--noEmit', '-p', '.'], { cwd: root }));
  await phase('architecture', () =>
    runNodeTests({ files: [architecture], concurrency: 1, limitSeconds: { file: 20, all: 30 } }),
  );
  await phase('unused code', () => run('knip', [], { cwd: root }));
  return await unprivileged('fast', selection);
}

export async function unprivileged(
  speed: 'fast' | 'slow',
  selection: Selection = {},
): Promise<Totals> {
  const files = unprivilegedTests(speed);
  // Many of the fast ones wait for a time to be over; the slow ones compute, beside others.
  const concurrency = speed === 'fast' ? 5 : 3;
  return await phase(`${speed} tests`, () =>
    runNodeTests({ files, concurrency, limitSeconds, selection }),
  );
}

/** CI gives the fuzzers a hundred times as many inputs. */
const limitSeconds = process.env.CI ? { file: 300, all: 600 } : { file: 60, all: 240 };
const architecture = join(root, 'test/architecture.test.ts');

if (import.meta.main) {
  try {
    await check();
  } catch (error) {
    if (!(error instanceof PhaseError)) throw error;
    console.log(`# FAILED ${error.message}`);
    process.exitCode = 1;
  }
}
