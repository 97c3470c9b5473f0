import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeChange, hostState } from '../scripts/host-state.ts';
import { runJob } from './nomad.ts';
import { Report } from './report.ts';
import type { DemoParts, Stage } from './stage.ts';
import { runVm } from './vm.ts';

/** Maximum for the whole demo, long enough for slow machines. */
const limitMs = 10 * 60_000;

/** Inside the namespaces: runs one kind of demo, then checks whether anything is left. Returns the exit code. */
export async function runInside(parts: DemoParts): Promise<number> {
  const report = new Report(parts.startedAtMs, parts.step);
  const signal = AbortSignal.any([interruption(), AbortSignal.timeout(limitMs)]);
  report.step('Namespaces');
  report.line(
    'the following runs in network, mount and process namespaces of its own (scripts/isolated.sh):',
  );
  report.line("this host's links, rules, mounts and processes cannot be reached");
  const before = hostState();
  const dir = await mkdtemp(join(tmpdir(), 'nq-demo-'));
  const stage: Stage = { report, dir, image: parts.image, signal };
  let failure: unknown;
  try {
    if (parts.nomad === undefined) await runVm(stage);
    else await runJob(stage, parts.nomad);
  } catch (error) {
    failure = signal.aborted ? signal.reason : error;
  }
  report.step('What is left');
  const left = await whatIsLeft(before, dir);
  if (left.length === 0) {
    report.line(
      'nothing: no process, link, nftables rule, mount or network namespace, and no file',
    );
  }
  for (const line of left) report.line(line);
  return conclude(report, failure, left.length > 0);
}

/** Aborts at Ctrl-C, at SIGTERM and when the process that started this one has ended. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  const stop = (): void => controller.abort(new Error('interrupted'));
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  process.on('disconnect', stop);
  process.channel?.unref();
  return controller.signal;
}

async function whatIsLeft(before: ReadonlySet<string>, dir: string): Promise<readonly string[]> {
  let left = describeChange(before, hostState());
  // A process that was signalled is a zombie for a moment, and its links are removed after it.
  for (let attempt = 0; attempt < 20 && left.length > 0; attempt += 1) {
    await sleep(100);
    left = describeChange(before, hostState());
  }
  const files = await filesBelow(join(dir, 'data'));
  await rm(dir, { recursive: true, force: true });
  return [...left, ...files.map((path) => `file ${path}`)];
}

/** Files in the driver's data directory, except the empty lock file. */
async function filesBelow(dir: string): Promise<readonly string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => !entry.isDirectory())
    .map(({ parentPath, name }) => join(parentPath, name))
    .filter((path) => path !== join(dir, 'networks/lock'));
}

function conclude(report: Report, failure: unknown, hasLeftovers: boolean): number {
  if (failure !== undefined) {
    report.bad(
      `The demo ended early: ${failure instanceof Error ? failure.message : String(failure)}`,
    );
    return 1;
  }
  if (hasLeftovers) {
    report.bad('The demo left something on the host, which is a bug.');
    return 1;
  }
  report.good('Done.');
  return 0;
}
