import { PluginError } from '../error/plugin-error.ts';
import type { TaskConfig } from '../gen/driver_pb.ts';
import { formatProblems, type Problem } from '../hcl/problem.ts';
import type { TaskContext } from './job.ts';

/**
 * One error for all that is wrong with a task: what decoding found, and what examining the host found besides, unless that
 * is about a key that has a problem already.
 */
export function invalidTask(
  { allocId }: TaskConfig,
  { driverName }: Pick<TaskContext, 'driverName'>,
  {
    problems,
    found = [],
  }: { readonly problems: readonly Problem[]; readonly found?: readonly string[] },
): PluginError {
  const more = found
    .filter((text) => !problems.some(({ path }) => isAbout(text, path)))
    .map((text) => ({ path: '', text }));
  const list = formatProblems([...problems, ...more]);
  return new PluginError('invalid', `${driverName}: invalid configuration ${allocId}: ${list}`);
}

/** `disk` is not the key of a text about `disk[1].size`. */
function isAbout(text: string, path: string): boolean {
  return text.startsWith(path) && !/^[\w.[]/.test(text.slice(path.length));
}
