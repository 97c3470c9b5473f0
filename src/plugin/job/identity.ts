import type { VmIdentity } from '#spec';
import type { Job } from './job.ts';

/** Which task, job and node the VM belongs to. */
export function readIdentity({ task, driverName, report }: Job): VmIdentity {
  if (task.name === '' || /[/\0]/.test(task.name) || task.name === '.' || task.name === '..') {
    report('task', 'virtual machine name can not be empty: the task has no usable name');
  }
  if (!task.allocDir.startsWith('/')) report('alloc_dir', 'must be an absolute path');
  return {
    taskId: task.id,
    taskName: task.name,
    allocId: task.allocId,
    groupName: task.taskGroupName,
    jobId: task.jobId,
    jobName: task.jobName,
    namespace: task.namespace,
    nodeName: task.nodeName,
    nodeId: task.nodeId,
    driverName,
  };
}
