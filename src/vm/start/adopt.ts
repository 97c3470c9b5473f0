import { statSync } from 'node:fs';
import { closeFd, isAlive, type ProcessIdentity } from '#host';
import { QmpClient } from '#qmp';
import type { Waiting } from '#spec';
import { closeShares } from '../devices/shares.ts';
import { messageOf, VmError } from '../error.ts';
import { Containment } from '../live/containment.ts';
import { Machine } from '../live/machine.ts';
import type { GuestStory } from '../live/task-events.ts';
import { Journal } from '../logs/journal.ts';
import { type LogRelay, openRelay } from '../logs/log-relay.ts';
import { openLogSink } from '../logs/log-sink.ts';
import { lastWords } from '../logs/log-tail.ts';
import { pathsIn, type VmPaths, vmPaths } from '../store/paths.ts';
import { readRecord, type VmRecord } from '../store/record.ts';
import { processesIn } from '../store/undo.ts';
import type { DomainRecord, RecoverSpec } from '../virtualizer.ts';
import type { VmHost } from '../vm-host.ts';
import { networkOf } from './boot.ts';

/** Recovery holds up the agent's start, one task after the other: a QEMU that hangs is connected to later. */
const greetingMs = 500;
const adoptMs = 5000;
const helpersMs = 2000;

export interface RecoverRequest {
  readonly known: DomainRecord;
  readonly spec: RecoverSpec;
  readonly host: VmHost;
  readonly bootId: string;
  readonly tell: (story: GuestStory) => void;
}

/**
 * Adopts a VM that an earlier process started. One that has ended meanwhile is adopted too: its journal says how.
 * Undefined when nothing of it is left, or when the host was restarted since. Once the signal aborts it waits for
 * nothing more and adopts the VM all the same: what is missing then comes later.
 */
export async function recoverVm(
  request: RecoverRequest,
  waiting: Waiting,
): Promise<Machine | undefined> {
  const { known, host, bootId } = request;
  const current = vmPaths(known.name, host.dataDir, host.runDir);
  if (known.dir !== current.dir) {
    throw new VmError(
      'recover',
      `VM ${known.name} was started in ${known.dir}; with data_dir "${host.dataDir}" it can't be adopted`,
    );
  }
  const record = await readRecord(current.record);
  if (record === undefined || known.bootId !== bootId) return undefined;
  // Its sockets and logs are where they were made, whatever run_dir is now.
  const paths = pathsIn(known.dir, { name: known.name, run: record.runDir });
  const identity: ProcessIdentity = {
    pid: known.pid,
    startTicks: known.startTicks,
    bootId: known.bootId,
  };
  const alive = isAlive(identity);
  if (alive) {
    await closeOldShares(paths, host);
    await adoptNics(request, record, waiting);
  }
  const qmp = alive ? await connect(paths, host, waiting) : undefined;
  const containment = alive ? adoptLimits(record, paths, identity, host) : undefined;
  const machine = Machine.watch({
    record,
    paths,
    identity,
    qmp,
    paused: qmp !== undefined && (await isPaused(qmp)),
    status: undefined,
    relays: openLogs(request, { paths, allocDir: record.allocDir, containment }),
    lastWords: () => lastWords(paths.messages),
    helperPids: alive ? await findHelpers(paths, known.pid) : [],
    network: networkOf(record),
    cgroup: record.cgroup && { ...record.cgroup, oomFile: record.cgroup.oomFile },
    journal: new Journal(paths.journal, host.log, containment),
    log: host.log,
    tell: request.tell,
  });
  host.log.info('VM adopted', { vm: known.name, pid: known.pid, alive });
  return machine;
}

/** The programs that serve shares; without them only figures are missing. */
async function findHelpers(paths: VmPaths, qemuPid: number): Promise<readonly number[]> {
  const waiting = { signal: AbortSignal.timeout(helpersMs) };
  const found = await processesIn(paths.undo, waiting).catch(() => []);
  return found.map((it) => it.pid).filter((pid) => pid !== qemuPid);
}

/** Earlier versions left them open to every user of the host. */
async function closeOldShares(paths: VmPaths, host: VmHost): Promise<void> {
  try {
    await closeShares(paths);
  } catch (error) {
    host.log.warn('shared directories not closed', { run: paths.run, reason: messageOf(error) });
  }
}

async function adoptNics(
  { host }: RecoverRequest,
  record: VmRecord,
  { signal }: Waiting,
): Promise<void> {
  for (const [index, nic] of record.nics.entries()) {
    try {
      const waiting = { signal: AbortSignal.any([signal, AbortSignal.timeout(adoptMs)]) };
      await host.networks.adopt({ vm: record.name, index, record: nic }, waiting);
    } catch (error) {
      // The guest keeps its address; only what the plugin does beside it is missing.
      host.log.warn('network not taken up again', { vm: record.name, reason: messageOf(error) });
    }
  }
}

async function connect(
  paths: VmPaths,
  host: VmHost,
  { signal }: Waiting,
): Promise<QmpClient | undefined> {
  try {
    const waiting = { signal: AbortSignal.any([signal, AbortSignal.timeout(greetingMs)]) };
    return await QmpClient.connect(paths.qmp, waiting);
  } catch (error) {
    host.log.warn('QMP does not answer; connecting again later', {
      path: paths.qmp,
      reason: messageOf(error),
    });
    return undefined;
  }
}

async function isPaused(qmp: QmpClient): Promise<boolean> {
  try {
    const waiting = { signal: AbortSignal.timeout(greetingMs) };
    return !(await qmp.execute('query-status', {}, waiting)).running;
  } catch {
    return false; // the end of the connection is told elsewhere
  }
}

/** Of a VM that an older release started nothing is limited. */
function adoptLimits(
  { longestDiskBytes: diskBytes }: VmRecord,
  { console, messages, journal }: VmPaths,
  identity: ProcessIdentity,
  { log }: VmHost,
): Containment | undefined {
  if (diskBytes === undefined) return undefined;
  const lengths = [console, messages, journal].map(
    (path) => statSync(path, { throwIfNoEntry: false })?.size ?? 0,
  );
  const containment = new Containment({ diskBytes }, log);
  containment.adopt(identity, Math.max(...lengths));
  return containment;
}

function openLogs(
  { spec, host }: RecoverRequest,
  logs: {
    readonly paths: VmPaths;
    readonly allocDir: string;
    readonly containment: Containment | undefined;
  },
): readonly LogRelay[] {
  const { paths, allocDir, containment } = logs;
  const streams = [
    { pipe: spec.stdoutPath, history: paths.console },
    { pipe: spec.stderrPath, history: paths.messages },
  ];
  return streams.flatMap(({ pipe, history }) => {
    const sink = openLogSink({ path: pipe, allocDir }, host.log);
    // A later reader finds QEMU's own end of the pipe; ours is enough here.
    if (sink !== undefined) closeFd(sink.held);
    return openRelay({
      history,
      sink,
      log: host.log,
      grown: (bytes) => containment?.grown(bytes),
    });
  });
}
