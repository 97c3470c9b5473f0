import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/** How many tests ran and how they ended; all 0 for phases without tests. */
export interface Totals {
  readonly tests: number;
  readonly pass: number;
  readonly fail: number;
  readonly skipped: number;
  /** What is reported again at the end, a text each. */
  readonly failures: readonly string[];
}

export const nothing: Totals = { tests: 0, pass: 0, fail: 0, skipped: 0, failures: [] };

export function add(a: Totals, b: Totals): Totals {
  return {
    tests: a.tests + b.tests,
    pass: a.pass + b.pass,
    fail: a.fail + b.fail,
    skipped: a.skipped + b.skipped,
    failures: [...a.failures, ...b.failures],
  };
}

/** The closing lines in the form of TAP, which readers of test logs search for. */
export function formatTotals(totals: Totals): string {
  return (['tests', 'pass', 'fail', 'skipped'] as const)
    .map((key) => `# ${key} ${totals[key]}`)
    .join('\n');
}

export class PhaseError extends Error {
  override readonly name = 'PhaseError';
  /** The tests that ran before the failure. */
  readonly totals: Totals;
  constructor(message: string, options?: ErrorOptions & { readonly totals?: Totals }) {
    super(message, options);
    this.totals = options?.totals ?? nothing;
  }
}

/** Runs one phase, with its name before and its time after it; a failure is reported by name and thrown. */
export async function phase<T>(name: string, run: () => T | Promise<T>): Promise<T> {
  const begin = performance.now();
  console.log(`\n=== ${name}`);
  const took = () => `${((performance.now() - begin) / 1000).toFixed(1)} s`;
  try {
    const result = await run();
    console.log(`=== ${name}: done in ${took()}`);
    return result;
  } catch (error) {
    console.log(`=== ${name}: FAILED after ${took()}`);
    throw error;
  }
}

const failureReporter = resolve(import.meta.dirname, 'failure-reporter.ts');

/** Where Node keeps our sources compiled, from one process to the next: the tests start about 500 of them. */
const compiled = resolve(import.meta.dirname, '../node_modules/.cache/node');

export interface RunOptions {
  readonly cwd?: string;
  readonly limitSeconds?: number;
}

/**
 * Runs a program with our own output; anything but exit code 0 is an error that names it. It has a process group of its
 * own, so that all its processes can be ended: at the limit, and when this process is ended.
 */
export async function run(
  program: string,
  args: readonly string[],
  { cwd, limitSeconds = 3600 }: RunOptions = {},
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const fail = (text: string) => reject(new PhaseError(`${program} ${args.join(' ')}: ${text}`));
  const child = spawn(program, args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, NODE_COMPILE_CACHE: compiled },
    cwd,
    detached: true,
  });
  const endGroup = (signal: NodeJS.Signals) => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    } catch {
      // It has already ended.
    }
  };
  const quit = () => {
    endGroup('SIGTERM');
    process.exit(130);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, quit);
  const timer = setTimeout(() => {
    fail(`still running after ${limitSeconds} s`);
    // SIGTERM first so that isolated.sh can clean up; a busy loop in JavaScript ends only by SIGKILL.
    endGroup('SIGTERM');
    setTimeout(endGroup, 3000, 'SIGKILL').unref();
  }, limitSeconds * 1000);
  child.on('error', (cause) => fail(cause.message));
  child.on('exit', (code, signal) => {
    if (code === 0) resolve();
    else fail(signal ?? `exit code ${code}`);
  });
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    for (const signal of signals) process.off(signal, quit);
  }
}

export interface NodeTests {
  readonly files: readonly string[];
  readonly concurrency: number;
  /** Maximum for one file of tests, and for all of them: one that hangs must not stop everything. */
  readonly limitSeconds: { readonly file: number; readonly all: number };
  /** A program with arguments that starts node, for example in namespaces of its own. */
  readonly wrapper?: readonly string[];
  readonly selection?: Selection;
}

/** Which tests of the files run, and how. */
export interface Selection {
  /** Regular expression for the names of the tests to run; all of them without it. */
  readonly only?: string | undefined;
  /** Writes snapshots instead of comparing with them. */
  readonly update?: boolean;
}

/**
 * Runs test files under node's test runner. A run without a single test is a failure: a wrong path or a crash before
 * the first test must not look like success. In CI a skipped test is a failure, too.
 */
export async function runNodeTests(tests: NodeTests): Promise<Totals> {
  if (tests.files.length === 0) throw new PhaseError('there is no test file');
  const folder = mkdtempSync(join(tmpdir(), 'nq-tests-'));
  try {
    const [tap, failed] = [join(folder, 'tap'), join(folder, 'failed')];
    const [program = process.execPath, ...args] = [
      ...(tests.wrapper ?? []),
      process.execPath,
      '--test',
      `--test-concurrency=${tests.concurrency}`,
      `--test-timeout=${tests.limitSeconds.file * 1000}`,
      '--test-reporter=spec',
      '--test-reporter-destination=stdout',
      '--test-reporter=tap',
      `--test-reporter-destination=${tap}`,
      `--test-reporter=${failureReporter}`,
      `--test-reporter-destination=${failed}`,
      ...selectionArgs(tests.selection ?? {}),
      ...tests.files,
    ];
    const outcome = await run(program, args, { limitSeconds: tests.limitSeconds.all }).then(
      () => undefined,
      (error: unknown) => error,
    );
    const failures = readFileSync(failed, 'utf8').split('\n').filter(Boolean);
    const totals = {
      ...parseTap(readFileSync(tap, 'utf8')),
      failures: failures.map((line): string => JSON.parse(line)),
    };
    console.log(formatTotals(totals));
    if (outcome !== undefined && totals.fail === 0) {
      const reason = outcome instanceof Error ? outcome.message : String(outcome);
      throw new PhaseError(reason, { totals });
    }
    assertRan(totals);
    return totals;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function selectionArgs({ only, update }: Selection): readonly string[] {
  return [
    ...(only === undefined ? [] : [`--test-name-pattern=${only}`]),
    ...(update ? ['--test-update-snapshots'] : []),
  ];
}

/** Throws when nothing ran, something failed, or something was skipped that CI must be able to run. */
export function assertRan(totals: Totals): void {
  const { pass, fail, skipped } = totals;
  if (fail > 0) throw new PhaseError(`${fail} tests failed`, { totals });
  if (pass === 0) throw new PhaseError('no test has passed', { totals });
  if (process.env.CI && skipped > 0) {
    throw new PhaseError(`${skipped} tests were skipped, and CI must be able to run all`, {
      totals,
    });
  }
}

function parseTap(text: string): Omit<Totals, 'failures'> {
  const count = (key: string): number =>
    Number(new RegExp(`^# ${key} (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
  // Node counts a file in which no test ran as a test that passed.
  const emptyFiles = text.match(/^ok \d+ - \S+\.test\.ts$/gm)?.length ?? 0;
  return {
    tests: count('tests') - emptyFiles,
    pass: count('pass') - emptyFiles,
    fail: count('fail') + count('cancelled'),
    skipped: count('skipped') + count('todo'),
  };
}
