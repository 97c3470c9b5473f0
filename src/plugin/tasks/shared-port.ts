import { quoted } from '#spec';
import { PluginError } from '../error/plugin-error.ts';
import type { TaskName } from './events.ts';

/**
 * Refuses a port that another task of the group publishes: it goes to one guest, and which one does not change with
 * another attempt. Throws PluginError 'invalid'.
 */
export function refuseSharedPort(
  ports: readonly string[],
  taken: readonly string[],
  { taskName }: Pick<TaskName, 'taskName'>,
): void {
  const shared = ports.find((label) => taken.includes(label));
  if (shared === undefined) return;
  throw new PluginError(
    'invalid',
    `network_interface[0].bridge.ports: the port ${quoted(shared)} is that of task ${quoted(taskName)} in this ` +
      `group already, and goes to one guest only: give each task a port with a label of its own`,
  );
}
