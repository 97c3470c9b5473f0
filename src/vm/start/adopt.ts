import { statSync } from 'node:fs';
import { isAlive, type Logger, type ProcessIdentity, within } from '#host';
import { nicIndexOf } from '#qemu';
import { QmpClient } from '#qmp';
import type { Waiting } from '#spec';
import { closeShares } from '../devices/shares/shares.ts';
import { messageOf, VmError } from '../error.ts';
import { Containment } from '../live/containment.ts';
import { seemsAlive } from '../live/liveness.ts';
import { Machine } from '../live/machine.ts';
import { isPaused } from '../live/monitor.ts';
import { TaskLogs } from '../logs/task-logs.ts';
import { pathsIn, type VmPaths, vmPaths } from '../store/paths.ts';
import { adoptedNicsOf, disksOf, readRecord, type VmRecord } from '../store/record.ts';
import { processesIn } from '../store/undo.ts';
import type { Emit } from '../task-event.ts';
import type { DomainRecord, RecoverSpec } from '../virtualizer.ts';
import type { VmHost } from '../vm-host.ts';

/** Recovery delays the agent's start, one task after the other: a QEMU that hangs is connected to later. */
const connectMs = 500;
const helpersMs = 2000;
const nicMs = 5000;

/**
 * Adopts a VM that an earlier process started. One that has ended meanwhile is adopted too: its journal shows how.
 * Undefined when nothing of it is left, or when the host was restarted since.
 */
export async function adoptVm(
  known: DomainRecord & { readonly currentBootId: string },
  { stdoutPath, stderrPath }: RecoverSpec,
  { host, emit }: { readonly host: VmHost; readonly emit: Emit },
  waiting: Waiting,
): Promise<Machine | undefined> {
  const { name: vm, pid, startTicks, bootId } = known;
  const { log } = host;
  const record = await recordOf(known, host);
  if (record === undefined || bootId !== known.currentBootId) return undefined;
  // Sockets and logs stay where they were created, also after a change of run_dir.
  const paths = pathsIn(known.dir, { name: vm, run: record.runDir });
  const identity: ProcessIdentity = { pid, startTicks, bootId };
  const alive = isAlive(identity);
  if (alive) await adoptDevices(record, paths, host, waiting);
  await using opened = new AsyncDisposableStack();
  const qmp = opened.use(alive ? await connect(paths, host, waiting) : undefined);
  const containment = alive ? adoptLimits(record, paths, identity, host) : undefined;
  const onGrowth = (bytes: number): void => containment?.grown(bytes);
  const pipes = { stdoutPath, stderrPath, allocDir: record.allocDir };
  const interactive = alive && record.interactiveConsole === true;
  const logs = opened.use(TaskLogs.open({ ...pipes, paths, interactive, log, onGrowth }));
  using limited = within(connectMs, waiting);
  const paused = qmp !== undefined && (await isPaused(qmp, limited));
  const helpers = alive ? await helpersOf(record, identity, { paths, log }) : [];
  opened.move(); // the machine owns the logs and the connection
  const machine = Machine.watch({
    record,
    paths,
    identity,
    qmp,
    paused,
    status: undefined,
    logs,
    containment,
    helpers,
    maxDiskBytes: host.maxImageBytes,
    log,
    emit,
  });
  log.info('VM adopted', { vm, pid, alive });
  return machine;
}

async function recordOf(
  { name, dir }: DomainRecord,
  { dataDir, runDir }: VmHost,
): Promise<VmRecord | undefined> {
  const current = vmPaths(name, dataDir, runDir);
  if (dir === current.dir) return readRecord(current.record);
  throw new VmError(
    'host',
    `VM ${name} was started in ${dir}; with data_dir "${dataDir}" it can't be adopted`,
  );
}

/** Processes that serve the VM's devices; they are needed for statistics only. */
async function helpersOf(
  { helpers }: VmRecord,
  { pid: qemuPid, bootId }: ProcessIdentity,
  { paths, log }: { readonly paths: VmPaths; readonly log: Logger },
): Promise<readonly ProcessIdentity[]> {
  if (helpers !== undefined) {
    return helpers
      .map((helper) => ({ ...helper, bootId }))
      .filter((helper) => seemsAlive(helper, log));
  }
  // The first release did not record them, and a search takes long on a busy host.
  using limited = within(helpersMs);
  const found = await processesIn(paths.undo, limited).catch(() => []);
  return found.filter(({ pid }) => pid !== qemuPid);
}

async function adoptDevices(
  record: VmRecord,
  paths: VmPaths,
  { networks, log }: VmHost,
  waiting: Waiting,
): Promise<void> {
  const { name: vm } = record;
  try {
    // Earlier releases gave every user of the host access.
    closeShares(paths);
  } catch (error) {
    log.warn('access to shared directories not restricted', { vm, error: messageOf(error) });
  }
  for (const nic of adoptedNicsOf(record)) {
    try {
      using limited = within(nicMs, waiting);
      await networks.adopt({ vm, index: nicIndexOf(nic.id), record: nic }, limited);
    } catch (error) {
      // The guest keeps its address and connection; only what the plugin does for the NIC is missing.
      log.warn('network not adopted', { vm, error: messageOf(error) });
    }
  }
}

async function connect(
  { qmp: path }: VmPaths,
  { log }: VmHost,
  waiting: Waiting,
): Promise<QmpClient | undefined> {
  try {
    using limited = within(connectMs, waiting);
    return await QmpClient.connect(path, limited);
  } catch (error) {
    log.warn('QMP does not answer; reconnecting later', { path, error: messageOf(error) });
    return undefined;
  }
}

/** Undefined for a VM that the first release started: it has no limits. */
function adoptLimits(
  record: VmRecord,
  { console, messages, journal, hvcLog }: VmPaths,
  identity: ProcessIdentity,
  { log }: VmHost,
): Containment | undefined {
  const disks = disksOf(record).map(({ maxFileBytes }) => maxFileBytes);
  if (disks.length === 0 || disks.includes(undefined)) return undefined;
  const lengths = [console, messages, journal, hvcLog].map(
    (path) => statSync(path, { throwIfNoEntry: false })?.size ?? 0,
  );
  const containment = new Containment(Math.max(...disks.map((bytes) => bytes ?? 0)), log);
  containment.adopt(identity, Math.max(...lengths));
  return containment;
}
