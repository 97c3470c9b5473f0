import type { ShareSpec } from '#spec';
import type { TaskConfig } from '../gen/driver_pb.ts';

/** The directory of the task inside that of its allocation. */
export function taskDirOf({ allocDir, name }: TaskConfig): string {
  return `${allocDir}/${name}`;
}

/** The directories that Nomad gives every task, at the paths where tasks with a file system of their own see them. */
export function sharesOf(task: TaskConfig): readonly ShareSpec[] {
  const taskDir = taskDirOf(task);
  return [
    { tag: 'allocDir', source: `${task.allocDir}/alloc`, target: '/alloc', readOnly: true },
    { tag: 'localDir', source: `${taskDir}/local`, target: '/local', readOnly: true },
    { tag: 'secretsDir', source: `${taskDir}/secrets`, target: '/secrets', readOnly: true },
  ];
}
