import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { appendFileSync, mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { isOrphan, sweepEveryMs } from '../../src/vm/store/orphans.ts';
import { pathsIn, type VmPaths } from '../../src/vm/store/paths.ts';
import { writeRecord } from '../../src/vm/store/record.ts';
import { tmpDir } from '../support/tmp.ts';
import { exampleRecord } from '../support/vm-record.ts';

const minuteMs = 60_000;

/** What is there of a VM that no task claims. */
interface Remains {
  /** Nomad client that started it; undefined: there is no record. */
  readonly nodeId?: string;
  /** Driver name whose task it is. */
  readonly driverName?: string;
  readonly allocation: boolean;
  readonly runDir: boolean;
  readonly process: boolean;
  /** Age of its directory. */
  readonly ageMs: number;
  /** Text of a record that can't be read. */
  readonly brokenRecord?: string;
  /** What the process that asks serves, and since when. */
  readonly serves: {
    readonly nodeId: string;
    readonly driverName?: string;
    readonly forMs: number;
  };
}

const ours = { nodeId: 'node-a', forMs: minuteMs };
const running: Remains = {
  nodeId: 'node-a',
  allocation: true,
  runDir: true,
  process: true,
  ageMs: 24 * 60 * minuteMs,
  serves: ours,
};
const dead: Remains = { ...running, process: false };
const { nodeId: _, ...recordless } = dead;

const table: Readonly<Record<string, readonly [Remains, boolean]>> = {
  'one that runs, with its allocation': [running, false],
  'one that runs without its allocation, of this client': [{ ...running, allocation: false }, true],
  'one that runs without its allocation, of another client': [
    { ...running, allocation: false, nodeId: 'node-b' },
    false,
  ],
  'one that runs without its allocation, before this process serves a client': [
    { ...running, allocation: false, serves: { nodeId: '', forMs: 0 } },
    false,
  ],
  'one of no client, before this process serves one': [
    { ...running, allocation: false, nodeId: '', serves: { nodeId: '', forMs: 0 } },
    false,
  ],
  'one without process and allocation, of another client': [
    { ...dead, allocation: false, nodeId: 'node-b' },
    true,
  ],
  'one without a process that its task may still claim': [dead, false],
  'one without a process that its task had time to claim': [
    { ...dead, serves: { ...ours, forMs: sweepEveryMs + 1 } },
    true,
  ],
  'one of another client without a process, however long this one was served': [
    { ...dead, nodeId: 'node-b', serves: { ...ours, forMs: sweepEveryMs + 1 } },
    false,
  ],
  'one of the other name of this driver without a process, however long this one was served': [
    {
      ...dead,
      driverName: 'nomad-driver-virt',
      serves: { ...ours, driverName: 'virt', forMs: sweepEveryMs + 1 },
    },
    false,
  ],
  'one of this name without a process that its task had time to claim': [
    {
      ...dead,
      driverName: 'virt',
      serves: { ...ours, driverName: 'virt', forMs: sweepEveryMs + 1 },
    },
    true,
  ],
  'one of the other name whose allocation is gone': [
    {
      ...dead,
      allocation: false,
      driverName: 'nomad-driver-virt',
      serves: { ...ours, driverName: 'virt' },
    },
    true,
  ],
  'one that runs, however long its task had time to claim it': [
    { ...running, serves: { ...ours, forMs: sweepEveryMs + 1 } },
    false,
  ],
  'one with neither process nor run directory: its removal was begun': [
    { ...dead, runDir: false },
    true,
  ],
  'the same of another client': [{ ...dead, runDir: false, nodeId: 'node-b' }, true],
  'one without a record, in the middle of its start': [{ ...recordless, ageMs: minuteMs }, false],
  'one without a record, whose large image is copied': [
    { ...recordless, ageMs: 30 * minuteMs },
    false,
  ],
  'one without a record, whose start was given up': [recordless, true],
  'one without a record, with a process': [{ ...recordless, process: true }, false],
  'one with a torn record, whose start was given up': [
    { ...recordless, brokenRecord: '{"ver' },
    true,
  ],
  'one with a record of a later version, with a process': [
    { ...recordless, process: true, brokenRecord: '{"version":2}' },
    false,
  ],
};

for (const [name, [remains, expected]] of Object.entries(table)) {
  test(`V-98: ${name}, is ${expected ? 'an orphan' : 'left alone'}`, async (t) => {
    const paths = await laidOut(t, remains);
    const { forMs, ...client } = remains.serves;
    const question = { paths, client, servedMs: forMs, nowMs: Date.now() };
    assert.equal(await isOrphan(question, { signal: AbortSignal.timeout(10_000) }), expected);
  });
}

test('a record that can not be read at all is no reason to remove its VM', async (t) => {
  const paths = await laidOut(t, recordless);
  mkdirSync(paths.record);
  const question = { paths, client: { nodeId: 'node-a' }, servedMs: 0, nowMs: Date.now() };
  await assert.rejects(isOrphan(question, { signal: AbortSignal.timeout(10_000) }), /EISDIR/);
});

/** Puts the VM's remains into a directory of its own. */
async function laidOut(t: TestContext, remains: Remains): Promise<VmPaths> {
  const root = tmpDir(t);
  const paths = pathsIn(join(root, 'vm-0'), { name: 'vm-0', run: join(root, 'run') });
  const allocDir = join(root, 'alloc');
  mkdirSync(paths.dir);
  if (remains.allocation) mkdirSync(allocDir);
  if (remains.runDir) mkdirSync(paths.run);
  if (remains.process) await runMarked(t, paths);
  const { nodeId, driverName, brokenRecord } = remains;
  if (nodeId !== undefined) {
    const client = { nodeId, ...(driverName !== undefined && { driverName }) };
    const own = { ...client, allocDir, dataDir: join(paths.dir, '../..'), runDir: paths.run };
    await writeRecord(paths.record, { ...exampleRecord, name: 'vm-0', ...own });
  }
  if (brokenRecord !== undefined) writeFileSync(paths.record, brokenRecord);
  const changed = (Date.now() - remains.ageMs) / 1000;
  utimesSync(paths.dir, changed, changed);
  return paths;
}

/** A process that the VM's undo log names. */
async function runMarked(t: TestContext, { undo }: VmPaths): Promise<void> {
  const mark = randomUUID();
  const program = process.execPath;
  const step = { kind: 'process', mark, program };
  appendFileSync(undo, `${JSON.stringify({ do: step })}\n`);
  const script = 'process.stdout.write("ready"); process.stdin.resume()';
  const child = spawn(program, ['-e', script, mark], { stdio: ['pipe', 'pipe', 'ignore'] });
  t.after(async () => {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  });
  await once(child.stdout, 'data');
}
