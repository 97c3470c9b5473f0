import { create } from '@bufbuild/protobuf';
import { toStatus } from '../../src/plugin/error/status.ts';
import { TaskConfigSchema } from '../../src/plugin/gen/driver_pb.ts';
import { invalidTask } from '../../src/plugin/job/invalid-task.ts';
import { planTask } from '../../src/plugin/job/task.ts';
import type { TaskInit } from '../plugin/requests.ts';

/** How long the event loop may stop for one task, whatever is in it. */
export const maxMs = 100;
/** Compilation and garbage come and go; what a task does to the loop comes each time. */
const rounds = 5;

/** How long this thread works to read a task and to answer with what is wrong with it, at best. */
export function answerTask(
  init: TaskInit,
  driverName = 'qmp',
): { readonly ms: number; readonly message: string } {
  const context = {
    driverName,
    hostArch: 'x86_64',
    limits: { minMemoryMiB: 500, minDiskMiB: 2000, maxDiskMiB: 100_000, maxConnections: 8192 },
    pools: { pools: [{ kind: 'directory', name: 'local', path: '/pool' }], default: 'local' },
  } as const;
  const config = create(TaskConfigSchema, init);
  let ms = Number.POSITIVE_INFINITY;
  let message = '';
  for (let round = 0; round < rounds && ms > maxMs; round += 1) {
    const started = process.threadCpuUsage();
    const { problems } = planTask(config, context);
    ({ message } = toStatus(invalidTask(config, context, { problems })));
    const { user, system } = process.threadCpuUsage(started);
    ms = Math.min(ms, (user + system) / 1000);
  }
  return { ms, message };
}
