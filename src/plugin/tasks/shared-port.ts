import { quoted, type VmSpec } from '#spec';
import { PluginError } from '../error/plugin-error.ts';
import type { TaskName } from './events.ts';

/** A port of the group that a task uses, and the key that names it. */
export interface PublishedPort {
  readonly label: string;
  readonly key: string;
}

export function publishedPorts({ nics, display }: VmSpec): readonly PublishedPort[] {
  const forwarded = nics.flatMap(({ kind, ports }, index) =>
    ports.map(({ label }) => ({ label, key: `network_interface[${index}].${kind}.ports` })),
  );
  const shown = (display?.vnc?.listen ?? []).map(({ label }) => ({
    label,
    key: 'display.vnc.port',
  }));
  return [...forwarded, ...shown];
}

/**
 * Refuses a port that another task of the group publishes: it goes to one guest, and which one does not change with
 * another attempt. Throws PluginError 'invalid'.
 */
export function refuseSharedPort(
  ports: readonly PublishedPort[],
  taken: readonly string[],
  { taskName }: Pick<TaskName, 'taskName'>,
): void {
  const shared = ports.find(({ label }) => taken.includes(label));
  if (shared === undefined) return;
  throw new PluginError(
    'invalid',
    `${shared.key}: the port ${quoted(shared.label)} is that of task ${quoted(taskName)} in this ` +
      `group already, and goes to one guest only: give each task a port with a label of its own`,
  );
}
