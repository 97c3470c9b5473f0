import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import {
  type CgroupPlan,
  type EmptyNamespaces,
  endsWithin,
  joinCgroup,
  oomKills,
  pinProcess,
  planCgroup,
  type SpawnedProcess,
  together,
  within,
} from '#host';
import { type CommandLine, memoryLimit, type Platform } from '#qemu';
import { type BlockNode, QmpClient } from '#qmp';
import type { VmSpec, Waiting } from '#spec';
import { factsOf, type Prepared, type Site } from '../devices/device.ts';
import { closeShares } from '../devices/shares/shares.ts';
import { VmError } from '../error.ts';
import type { Containment } from '../live/containment.ts';
import { qemuLimits } from '../live/limits.ts';
import { Machine } from '../live/machine.ts';
import type { TaskLogs } from '../logs/task-logs.ts';
import type { VmPaths } from '../store/paths.ts';
import { type VmRecord, writeRecord } from '../store/record.ts';
import { fitsBareRoot } from './bare-root.ts';
import { recordReady } from './ready.ts';
import { watchServers } from './silent-server.ts';
import { spawnQemu } from './spawn.ts';
import { startError } from './start-error.ts';

/** Includes the time to map and, with hugepages, to clear the guest's memory. */
const bootBaseMs = 30_000;
const bootPerGiBMs = 1000;
/** A QEMU that fails closes its sockets a moment before its exit status is known. */
const dyingMs = 100;

const outOfMemory = 'the kernel killed QEMU: the task used more memory than its limit';

const needsBareRoot =
  'args: -kernel is not possible with directories by 9p, nor where QEMU can see the files of the host';

const sharedCores =
  'The VM runs on the cores of all tasks: Nomad gave its reserved ones back with an allocation that has ended';

/** Everything that QEMU is started with. */
export interface Launch {
  readonly spec: VmSpec;
  /** Path of the emulator. */
  readonly program: string;
  readonly platform: Platform;
  readonly line: CommandLine;
  /** Where QEMU runs if it needs no network. */
  readonly empty: EmptyNamespaces | undefined;
  readonly devices: readonly Prepared[];
  readonly logs: TaskLogs;
  readonly containment: Containment;
  /** Maximum size of a disk. */
  readonly maxDiskBytes: number;
}

/**
 * Starts QEMU paused, moves it into its cgroup, then runs the guest. What the guest needs and QEMU does not is
 * finished while QEMU initialises. Throws VmError with QEMU's own messages.
 */
export async function boot(launch: Launch, site: Site, waiting: Waiting): Promise<Machine> {
  const { spec, program, platform, line, devices, empty, logs, containment } = launch;
  const { paths, uid, files, emit, log } = site;
  await using failed = new AsyncDisposableStack();
  failed.use(logs);
  const cgroup = cgroupOf(launch);
  const planned = recordOf(launch, site, cgroup);
  try {
    using booting = within(bootMs(spec), waiting);
    const limits = qemuLimits(spec.vcpus, line.threads);
    const bareRoot = await fitsBareRoot(program, { hostFiles: line.hostFiles, log }, booting);
    if (spec.kernel !== undefined && !bareRoot) throw new VmError('host', needsBareRoot);
    const { machine } = platform;
    const qemu = await spawnQemu({ program, line, machine, limits, bareRoot, empty }, site);
    const { identity } = qemu;
    log.info('QEMU spawned', { vm: spec.name, pid: identity.pid, uid });
    const joined = cgroup === undefined ? undefined : joinCgroup(cgroup, identity.pid);
    const [{ qmp, nodes }, record] = await together([
      connect(paths, { qemu, devices }, booting),
      finishDevices(launch, planned, paths),
    ]);
    failed.use(qmp);
    // Not earlier: the guest's memory may be a file as well, which has its full length by now.
    containment.begin(identity, limits);
    checkNodes(nodes, line.nodes);
    if (cgroup === undefined) await pinProcess(identity.pid, spec.pinnedCores);
    for (const device of devices) await device.beforeGuest?.(qmp, booting);
    closeShares(paths);
    // QEMU and its helpers have their own copies of the files.
    await together([qmp.execute('cont', {}, booting), files[Symbol.asyncDispose]()]);
    if (joined?.sharesCores) emit(sharedCores);
    emit('Guest started', {
      pid: String(identity.pid),
      machine: machine.type,
      accelerator: machine.accelerator,
    });
    failed.move();
    return Machine.watch({
      record,
      paths,
      identity,
      qmp,
      paused: false,
      status: qemu.exit,
      logs,
      containment,
      helpers: record.helpers.map((helper) => ({ ...helper, bootId: identity.bootId })),
      maxDiskBytes: launch.maxDiskBytes,
      log,
      emit,
    });
  } catch (error) {
    const starved = cgroup !== undefined && oomKills(cgroup) > planned.oomKillsBefore;
    const cause = starved ? new Error(outOfMemory, { cause: error }) : error;
    throw startError(cause, { paths, devices });
  }
}

function bootMs({ memoryMiB }: VmSpec): number {
  return bootBaseMs + Math.ceil(memoryMiB / 1024) * bootPerGiBMs;
}

/** All that is known before QEMU is spawned. */
type PlannedRecord = Omit<VmRecord, 'devices' | 'ready'>;

/** Finishes what QEMU is not waited for, and writes the record. */
async function finishDevices(
  { spec, devices }: Launch,
  planned: PlannedRecord,
  paths: VmPaths,
): Promise<VmRecord & Required<Pick<VmRecord, 'helpers'>>> {
  const { cgroup } = planned;
  const [facts, ...finished] = await together([
    factsOf(devices),
    ...devices.map(({ finish }) => finish?.() ?? []),
  ]);
  const helpers = finished.flat();
  for (const { pid } of helpers) if (cgroup !== undefined) joinCgroup(cgroup, pid);
  const known = helpers.map(({ pid, startTicks }) => ({ pid, startTicks }));
  const record = {
    ...planned,
    devices: facts.map((each) => each.record),
    ...recordReady(spec, facts),
    helpers: known,
  };
  await writeRecord(paths.record, record);
  return record;
}

function cgroupOf({ spec, platform }: Launch): CgroupPlan | undefined {
  const wanted = {
    cgroupPath: spec.cgroupPath,
    allocId: spec.identity.allocId,
    taskName: spec.identity.taskName,
    memoryBytes: memoryLimit(platform),
    cpuShares: spec.cpuShares,
    cores: spec.pinnedCores,
  };
  return planCgroup(wanted, existsSync);
}

function recordOf(
  { spec, platform }: Launch,
  { paths, uid }: Site,
  cgroup: CgroupPlan | undefined,
): PlannedRecord {
  const { name, allocDir, vcpus, memoryMiB } = spec;
  return {
    name,
    uuid: platform.uuid,
    dataDir: dirname(dirname(paths.dir)),
    ...spec.identity,
    allocDir,
    machine: platform.machine.type,
    accelerator: platform.machine.accelerator,
    vcpus,
    memoryMiB,
    uid,
    runDir: paths.run,
    startedAtMs: Date.now(),
    oomKillsBefore: cgroup === undefined ? 0 : oomKills(cgroup),
    ...(cgroup === undefined ? {} : { cgroup }),
    interactiveConsole: true,
    ...(spec.exec === undefined ? {} : { exec: spec.exec }),
  };
}

interface Connected {
  readonly qmp: QmpClient;
  readonly nodes: readonly BlockNode[];
}

/** Connects to a QEMU that was just spawned; the listening socket was created before it. */
async function connect(
  paths: VmPaths,
  { qemu, devices }: { readonly qemu: SpawnedProcess } & Pick<Launch, 'devices'>,
  waiting: Waiting,
): Promise<Connected> {
  const failed = new AbortController();
  void qemu.exit.then(({ code, signal }) => {
    failed.abort(
      new Error(signal === null ? `QEMU exited with code ${code}` : `QEMU was ended by ${signal}`),
    );
  });
  using _ = watchServers(qemu.identity, devices, (error) => failed.abort(error));
  const either = { signal: AbortSignal.any([waiting.signal, failed.signal]) };
  try {
    // A QEMU that fails later may send its greeting; an answered command means that the machine is initialised.
    const first = ['query-named-block-nodes', { flat: true }] as const;
    const { qmp, answer: nodes } = await QmpClient.connectWith(paths.qmp, first, either);
    return { qmp, nodes };
  } catch (error) {
    await endsWithin(qemu.exit, dyingMs);
    throw failed.signal.aborted ? failed.signal.reason : error;
  }
}

/**
 * A task may rewrite its image's header between our check and QEMU's open. Any other file that QEMU then opened has a
 * block node that was not planned; the guest has not run yet.
 */
function checkNodes(nodes: readonly BlockNode[], planned: ReadonlySet<string>): void {
  const unplanned = nodes.filter((node) => !planned.has(node['node-name'] ?? ''));
  if (unplanned.length === 0) return;
  const files = unplanned.map(({ file }) => file).join(', ');
  throw new VmError('job', `the image was changed while it was opened: it refers to ${files}`);
}
