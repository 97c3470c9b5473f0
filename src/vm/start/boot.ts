import { constants, existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import {
  abortable,
  type CgroupPlan,
  joinCgroup,
  limitProcess,
  listenUnix,
  memfd,
  oomKills,
  openPath,
  planCgroup,
  type SpawnedProcess,
  setAffinity,
  spawnDetached,
  type UndoLog,
  within,
} from '#host';
import type { AttachedNic } from '#net';
import { vmGid } from '#qemu';
import { QmpClient } from '#qmp';
import type { VmSpec, Waiting } from '#spec';
import type { Descriptors } from '../devices/files.ts';
import { closeShares, type PreparedShare } from '../devices/shares.ts';
import { inWords, messageOf, VmError } from '../error.ts';
import { Containment } from '../live/containment.ts';
import { Machine } from '../live/machine.ts';
import { Journal, openJournal } from '../logs/journal.ts';
import { type LogRelay, openRelay } from '../logs/log-relay.ts';
import { openLogSink } from '../logs/log-sink.ts';
import { lastWords } from '../logs/log-tail.ts';
import type { VmPaths } from '../store/paths.ts';
import { type VmRecord, writeRecord } from '../store/record.ts';
import type { VmUndo } from '../store/undo.ts';
import type { DomainNetwork } from '../virtualizer.ts';
import { fitsBareRoot } from './bare-root.ts';
import type { VmPlan } from './plan.ts';
import type { StartRequest } from './start.ts';

/** QEMU needs its time to map and, with hugepages, to clear the guest's memory. */
const bootBaseMs = 30_000;
const bootPerGiBMs = 1000;

const outOfMemory = 'the kernel killed it: the task used more memory than its limit';

export interface LaunchParts {
  readonly request: StartRequest;
  readonly plan: VmPlan;
  readonly undo: UndoLog<VmUndo>;
  readonly uid: number;
  readonly nics: readonly AttachedNic[];
  readonly shares: readonly PreparedShare[];
  readonly fds: Descriptors;
  readonly imagePath: string;
}

/** Starts QEMU paused, puts it where it belongs, lets the guest run. Throws VmError 'boot' with QEMU's own words. */
export async function launch(parts: LaunchParts, waiting: Waiting): Promise<Machine> {
  const { request, plan, undo, fds } = parts;
  const { spec, host, tell } = request;
  const { paths } = plan;
  const cgroup = cgroupOf(spec, plan);
  const record = makeRecord(parts, cgroup);
  await writeRecord(paths.record, record);
  const containment = new Containment(plan.limits, host.log);
  const relays = openLogs(parts, containment);
  let spawned: SpawnedProcess | undefined;
  let qmp: QmpClient | undefined;
  try {
    const { uuid: mark, program } = plan;
    const { shares, uid } = parts;
    const bareRoot = await fitsBareRoot({ program, shares, log: host.log }, waiting);
    spawned = await undo.perform({ kind: 'process', mark, program, uid }, () =>
      spawnQemu(parts, bareRoot),
    );
    host.log.info('QEMU spawned', { vm: spec.name, pid: spawned.identity.pid, uid });
    fds[Symbol.dispose]();
    if (cgroup !== undefined) {
      for (const pid of [spawned.identity.pid, ...helperPids(parts)]) joinCgroup(cgroup, pid);
    }
    const limit = bootBaseMs + Math.ceil(spec.memoryMiB / 1024) * bootPerGiBMs;
    using booting = within(limit, waiting);
    qmp = await connect(paths, spawned, booting);
    // From here on: the guest's memory may be a file as well, which has its length by now.
    containment.begin(spawned.identity, plan.limits);
    await checkNodes(qmp, plan.line.nodes, booting);
    if (cgroup === undefined) await pin(spawned.identity.pid, spec.pinnedCores);
    if (plan.disk.growBeforeBoot) {
      await qmp.execute(
        'block_resize',
        { 'node-name': 'disk', size: plan.disk.virtualBytes },
        booting,
      );
    }
    await settleNics(parts, booting);
    await closeShares(paths);
    await qmp.execute('cont', {}, booting);
  } catch (error) {
    await qmp?.[Symbol.asyncDispose]();
    for (const relay of relays) await relay[Symbol.asyncDispose]();
    const starved = cgroup !== undefined && oomKills(cgroup) > record.oomKillsBefore;
    throw startError(starved ? new Error(outOfMemory, { cause: error }) : error, paths);
  }
  tell({
    message: 'Guest started',
    annotations: {
      pid: String(spawned.identity.pid),
      machine: plan.machine.type,
      accelerator: plan.machine.accelerator,
    },
  });
  return Machine.watch({
    record,
    paths,
    identity: spawned.identity,
    qmp,
    paused: false,
    status: spawned.exit,
    relays,
    lastWords: () => lastWords(paths.messages),
    helperPids: helperPids(parts),
    network: networkOf(record),
    cgroup,
    journal: new Journal(paths.journal, host.log, containment),
    log: host.log,
    tell,
  });
}

/** The guest must not run before rules filter what it sends. */
async function settleNics({ nics, request }: LaunchParts, waiting: Waiting): Promise<void> {
  const settled = Promise.all(nics.map((nic) => nic.settled));
  const notes = await inWords('network', () => abortable(settled, waiting));
  for (const message of notes.flat()) request.tell({ message, annotations: {} });
}

/** What serves the VM's directories: part of the task, so its limits and its end are the task's. */
function helperPids({ shares }: LaunchParts): readonly number[] {
  return shares.flatMap(({ pid }) => (pid === undefined ? [] : [pid]));
}

/** The first NIC's address and ports, as services want to know them; undefined when the driver knows no address. */
export function networkOf({ nics }: VmRecord): DomainNetwork | undefined {
  const first = nics[0];
  if (first?.ip === undefined) return undefined;
  return { ip: first.ip, mac: first.mac, bridge: first.bridge, portMap: first.portMap };
}

function cgroupOf(spec: VmSpec, plan: VmPlan): CgroupPlan | undefined {
  const wanted = {
    cgroupPath: spec.cgroupPath,
    allocId: spec.identity.allocId,
    taskName: spec.identity.taskName,
    memoryBytes: plan.memoryLimitBytes,
    cpuShares: spec.cpuShares,
    cores: spec.pinnedCores,
  };
  return planCgroup(wanted, existsSync);
}

function makeRecord(parts: LaunchParts, cgroup: CgroupPlan | undefined): VmRecord {
  const { request, plan, uid, nics, imagePath } = parts;
  const { spec, host } = request;
  return {
    version: 1,
    name: spec.name,
    uuid: plan.uuid,
    dataDir: host.dataDir,
    ...spec.identity,
    allocDir: spec.allocDir,
    machine: plan.machine.type,
    accelerator: plan.machine.accelerator,
    vcpus: spec.vcpus,
    memoryMiB: spec.memoryMiB,
    uid,
    image: imagePath,
    diskPath: plan.disk.path,
    diskFormat: plan.disk.format,
    longestDiskBytes: plan.limits.diskBytes,
    runDir: plan.paths.run,
    startedAtMs: Date.now(),
    oomKillsBefore: cgroup === undefined ? 0 : oomKills(cgroup),
    ...(cgroup === undefined
      ? {}
      : { cgroup: { ...cgroup, groups: [...cgroup.groups], writes: [...cgroup.writes] } }),
    nics: nics.map(({ record }) => record),
  };
}

/** Opens both of Nomad's log pipes and starts passing on what QEMU will append to the histories behind them. */
function openLogs(
  { request, plan, fds }: LaunchParts,
  containment: Containment,
): readonly LogRelay[] {
  const { spec, host } = request;
  const { log } = host;
  const { paths } = plan;
  const streams = [
    { role: 'stdout', pipe: spec.stdoutPath, history: paths.console },
    { role: 'stderr', pipe: spec.stderrPath, history: paths.messages },
  ] as const;
  return streams.flatMap(({ role, pipe, history }) => {
    const sink = openLogSink({ path: pipe, allocDir: spec.allocDir }, log);
    if (sink !== undefined) fds.add(role, sink.held);
    return openRelay({ history, sink, log, grown: (bytes) => containment.grown(bytes) });
  });
}

async function spawnQemu(
  { plan, uid, fds }: LaunchParts,
  bareRoot: boolean,
): Promise<SpawnedProcess> {
  const { paths } = plan;
  const append = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;
  fds.add('qmp', listenUnix(paths.qmp));
  fds.add('agent', listenUnix(paths.agent));
  fds.add('console', openPath(paths.console, append, 0o600));
  // The journal's monitor reads its only command from here; the end of it does not end the session.
  const hello = fds.own(memfd('journal', Buffer.from('{"execute":"qmp_capabilities"}\n')));
  const journal = fds.own(openJournal(paths.journal));
  const messages = fds.own(openPath(paths.messages, append, 0o600));
  // Inherited: a dump of QEMU would hold the guest's memory, one of the plugin every task's secrets.
  limitProcess(process.pid, { core: 0 });
  return spawnDetached({
    program: plan.program,
    args: plan.line.argv,
    cwd: '/',
    uid,
    gid: plan.machine.accelerator === 'kvm' ? vmGid(uid) : uid,
    stdio: [hello, journal, messages, ...fds.inOrder(plan.line.files)],
    alone: true,
    bareRoot,
    limits: { openFiles: plan.limits.openFiles, processes: plan.limits.processes },
  });
}

/** Connects to a QEMU that was just spawned; its listener has been there since before it was. */
async function connect(
  paths: VmPaths,
  spawned: SpawnedProcess,
  waiting: Waiting,
): Promise<QmpClient> {
  const dead = new AbortController();
  void spawned.exit.then(({ code, signal }) => {
    dead.abort(
      new Error(signal === null ? `it exited with code ${code}` : `it was ended by ${signal}`),
    );
  });
  const either = { signal: AbortSignal.any([waiting.signal, dead.signal]) };
  try {
    const qmp = await QmpClient.connect(paths.qmp, either);
    // A QEMU that fails later may greet already; an answered command means that the machine stands.
    await qmp.execute('query-status', {}, either);
    return qmp;
  } catch (error) {
    await Promise.race([spawned.exit, new Promise((resolve) => setTimeout(resolve, 100))]);
    throw dead.signal.aborted ? dead.signal.reason : error;
  }
}

/**
 * A task may rewrite its image's header between our look at it and QEMU's. Whatever else that made QEMU open has a
 * node that was not planned; the guest has not run yet.
 */
async function checkNodes(
  qmp: QmpClient,
  planned: ReadonlySet<string>,
  waiting: Waiting,
): Promise<void> {
  const nodes = await qmp.execute('query-named-block-nodes', { flat: true }, waiting);
  const strangers = nodes.filter((it) => !planned.has(it['node-name'] ?? ''));
  if (strangers.length === 0) return;
  const files = strangers.map((it) => it.file).join(', ');
  throw new VmError('image', `the image was changed while it was opened: it refers to ${files}`);
}

/** Without a cgroup of Nomad's the reserved cores are set on QEMU's threads themselves. */
async function pin(pid: number, cores: readonly number[]): Promise<void> {
  if (cores.length === 0) return;
  for (const tid of await readdir(`/proc/${pid}/task`)) setAffinity(Number(tid), cores);
}

function startError(error: unknown, paths: VmPaths): VmError {
  if (error instanceof VmError) return error;
  const words = lastWords(paths.messages);
  const said = words === '' ? '' : `; QEMU said: ${words}`;
  return new VmError('boot', `QEMU did not start the VM: ${messageOf(error)}${said}`, {
    cause: error,
    // What the job asks for was found possible before: it is the host that had no memory, no time, no luck.
    recoverable: true,
  });
}
