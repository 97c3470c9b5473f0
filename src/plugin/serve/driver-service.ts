import { create } from '@bufbuild/protobuf';
import type { Duration } from '@bufbuild/protobuf/wkt';
import { durationMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { abortable, type Logger } from '#host';
import type { Arch } from '#spec';
import { type Domain, releaseLogPipes } from '#vm';
import { messageOf } from '../error/message.ts';
import { PluginError } from '../error/plugin-error.ts';
import {
  type Driver,
  DriverCapabilities_FSIsolation,
  DriverCapabilities_MountConfigs,
  DriverCapabilitiesSchema,
  NetworkIsolationSpec_NetworkIsolationMode,
  type TaskConfig,
  TaskState,
} from '../gen/driver_pb.ts';
import { hclSpec } from '../hcl/hcl-spec.ts';
import { invalidTask } from '../job/invalid-task.ts';
import { planTask, taskSchemaOf } from '../job/task.ts';
import type { BackendHolder } from '../tasks/backend.ts';
import type { EventHub, TaskName } from '../tasks/events.ts';
import { figureAttributes } from '../tasks/figure-attributes.ts';
import type { Fingerprinter } from '../tasks/fingerprint.ts';
import type { Compute } from '../tasks/node-compute.ts';
import { readSignal, readStop } from '../tasks/signals.ts';
import { taskStats } from '../tasks/stats.ts';
import { decodeTaskState, encodeTaskState, handleVersion } from '../tasks/task-handle.ts';
import type { Tasks } from '../tasks/tasks.ts';
import { execStreaming, execTask } from './exec.ts';
import { hangUp } from './hang-up.ts';
import type { Call, Handlers } from './rpc.ts';

export interface DriverServiceOptions {
  readonly driverName: string;
  readonly backend: BackendHolder;
  readonly tasks: Tasks;
  readonly events: EventHub;
  readonly fingerprinter: Fingerprinter;
  readonly hostArch: Arch | undefined;
  readonly compute: () => Compute | undefined;
  readonly log: Logger;
}

const capabilities = create(DriverCapabilitiesSchema, {
  sendSignals: true,
  exec: true,
  fsIsolation: DriverCapabilities_FSIsolation.IMAGE,
  networkIsolationModes: [
    NetworkIsolationSpec_NetworkIsolationMode.HOST,
    NetworkIsolationSpec_NetworkIsolationMode.GROUP,
    NetworkIsolationSpec_NetworkIsolationMode.NONE,
  ],
  // Only one driver of a group may create its network: Docker's does, and proxies of a mesh are its tasks.
  mustCreateNetwork: false,
  // A volume is a disk or a directory of the guest; planTask refuses mounts that can be neither.
  mountConfigs: DriverCapabilities_MountConfigs.ANY_MOUNTS,
  disableLogCollection: false,
});

/** What Go sends for a time that is not set; without a timestamp the caller fails. */
const zeroTime = { seconds: -62_135_596_800n, nanos: 0 };

const defaultIntervalMs = 1000;

export function driverService(options: DriverServiceOptions): Handlers<typeof Driver> {
  const { driverName, tasks, events, fingerprinter, compute, log } = options;
  return {
    init: () => ({}),
    shutdown: () => ({}),
    taskConfigSchema: () => ({ spec: hclSpec(taskSchemaOf(driverName)) }),
    capabilities: () => ({ capabilities }),
    fingerprint: (_request, call) => fingerprinter.stream(call),
    taskEvents: (_request, call) => events.stream(call),

    startTask: async ({ task: config }, call) => {
      if (config === undefined || config.id === '') throw missing('task');
      try {
        return await startTask(options, config, call);
      } catch (error) {
        releaseLogPipes([config.stdoutPath, config.stderrPath], config.allocDir);
        throw error;
      }
    },

    recoverTask: async ({ handle }, call) => {
      if (handle === undefined) throw missing('handle');
      const config = handle.config;
      if (config === undefined || config.id === '') throw missing('handle.config');
      const readRecord = () => decodeTaskState(handle.version, handle.driverState);
      const { stdoutPath, stderrPath, env } = config;
      await tasks.recover(namesOf(config), { readRecord, env, stdoutPath, stderrPath }, call);
      log.info('recovered task', { task: config.id, vm: tasks.find(config.id)?.domain.name });
      return {};
    },

    waitTask: async ({ taskId }, call) => {
      const exit = await abortable(tasks.get(taskId).exit, call);
      const { exitCode, signal, oomKilled, error = '' } = exit;
      return { result: { exitCode, signal, oomKilled }, err: error };
    },

    stopTask: async ({ taskId, timeout, signal }) => {
      const request = readStop(signal, toMs(timeout, 0));
      log.info('stopping task', { task: taskId, ...request });
      await tasks.stop(taskId, request);
      return {};
    },

    destroyTask: async ({ taskId, force }) => {
      if (taskId === '') throw missing('task_id');
      log.info('destroying task', { task: taskId, force });
      await tasks.destroy(taskId, force);
      return {};
    },

    inspectTask: async ({ taskId }, call) => {
      const task = tasks.get(taskId);
      const { domain } = task;
      const { exitCode = 0, signal = 0, oomKilled = false } = domain.exit ?? {};
      const networkOverride = networkOf(domain);
      return {
        task: {
          id: taskId,
          name: task.taskName,
          state: domain.exit === undefined ? TaskState.RUNNING : TaskState.EXITED,
          startedAt: timestampFromMs(domain.startedAtMs),
          completedAt:
            domain.completedAtMs === undefined ? zeroTime : timestampFromMs(domain.completedAtMs),
          result: { exitCode, signal, oomKilled },
        },
        driver: { attributes: { ...domain.attributes, ...(await figuresOf(domain, call)) } },
        ...(networkOverride && { networkOverride }),
      };
    },

    // For a task that is unknown the stream ends without an error; Nomad would log one per interval.
    taskStats: async function* ({ taskId, collectionInterval }, call) {
      const task = tasks.find(taskId);
      if (task === undefined) return;
      const intervalMs = toMs(collectionInterval, defaultIntervalMs) || defaultIntervalMs;
      yield* taskStats(task, { intervalMs, compute: compute(), log }, call);
    },

    signalTask: async ({ taskId, signal }, waiting) => {
      const task = tasks.get(taskId);
      const wanted = readSignal(signal);
      log.info('signalling task', { task: taskId, signal });
      if (wanted.kind === 'command') {
        await hangUp(task, waiting);
        return {};
      }
      if (wanted.kind === 'act') {
        await tasks.act(task.taskId, wanted.action, waiting);
        return {};
      }
      const { request } = wanted;
      const stopped = tasks.stop(task.taskId, request);
      // A signal is sent, not waited for; WaitTask reports its effect.
      if (request.immediately) await stopped;
      else stopped.catch((error: unknown) => log.warn('signal failed', { task: taskId, error }));
      return {};
    },

    execTask: async ({ taskId, command, timeout }, call) => {
      const timeoutMs = toMs(timeout, 0);
      return await execTask(tasks.get(taskId), { command, timeoutMs }, call);
    },
    execTaskStreaming: (requests, call) => execStreaming(requests, (id) => tasks.get(id), call),
    createNetwork: () => {
      throw new PluginError('unsupported', 'CreateNetwork is not supported by this driver');
    },
    destroyNetwork: () => {
      throw new PluginError('unsupported', 'DestroyNetwork is not supported by this driver');
    },
  };
}

/** None of a VM that has ended: what it used is not counted any more. */
async function figuresOf(domain: Domain, call: Call): Promise<Readonly<Record<string, string>>> {
  return domain.exit === undefined ? figureAttributes(await domain.figures(call)) : {};
}

async function startTask(
  { driverName, backend, tasks, hostArch, log }: DriverServiceOptions,
  config: TaskConfig,
  call: Call,
) {
  const { limits, storagePools: pools, builtin } = backend.config;
  const context = { driverName, limits, pools, builtin, hostArch };
  const { spec, problems } = planTask(config, context);
  if (problems.length > 0) {
    // All problems are reported at once, those of files included.
    const found = await backend
      .get()
      .then((ready) => ready.problemsOf(spec, call))
      .catch((error: unknown) => [messageOf(error)]);
    throw invalidTask(config, context, { problems, found });
  }
  log.info('starting task', { task: config.id, vm: spec.name });
  const { domain } = await tasks.start(namesOf(config), spec, call);
  const driverState = encodeTaskState({ record: domain.record, startedAtMs: domain.startedAtMs });
  const networkOverride = networkOf(domain);
  return {
    handle: { version: handleVersion, config, state: TaskState.RUNNING, driverState },
    ...(networkOverride && { networkOverride }),
  };
}

function namesOf(config: TaskConfig): TaskName {
  return { taskId: config.id, taskName: config.name, allocId: config.allocId };
}

/**
 * For services with address_mode "driver". Others are registered with the host's address and port: the guest's address is
 * one of a private network, where other hosts reach only the published ports.
 */
function networkOf({ network }: Domain) {
  if (network === undefined) return undefined;
  return { addr: network.ip, portMap: { ...network.portMap }, autoAdvertise: false };
}

function toMs(duration: Duration | undefined, absent: number): number {
  return duration === undefined ? absent : durationMs(duration);
}

function missing(field: string): PluginError {
  return new PluginError('invalid', `the request has no ${field}`);
}
