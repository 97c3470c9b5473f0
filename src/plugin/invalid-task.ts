import { listProblems } from './config.ts';
import type { Problem } from './decode-fields.ts';
import { PluginError } from './error.ts';
import type { TaskConfig } from './gen/driver_pb.ts';

/**
 * One error for all that is wrong with a task: what its decoding found, and what a look at the host found besides. That
 * says nothing new of a key that has a problem already.
 */
export function invalidTask(
  task: TaskConfig,
  problems: readonly Problem[],
  found: readonly string[] = [],
): PluginError {
  const more = found
    .filter((text) => !problems.some(({ path }) => text.startsWith(path)))
    .map((text) => ({ path: '', text }));
  const list = listProblems([...problems, ...more]);
  return new PluginError('config', `virt: invalid configuration ${task.allocId}: ${list}`);
}
