import { type DisplaySpec, type PortSpec, quoted } from '#spec';
import type { TaskConfig } from '../../gen/driver_pb.ts';
import type { Decoded } from '../../hcl/schema.ts';
import type { Job } from '../job.ts';
import { groupNetns } from '../nics/group.ts';
import type { builtinFields } from './fields.ts';

type Raw = Pick<Decoded<typeof builtinFields>, 'port_map'>;

/** A port that Nomad has reserved. */
export type Reserved = Omit<PortSpec, 'guestPort'>;

/**
 * The task's ports by label, from the group or from `resources { network }`. In the network of a group a port has its `to`,
 * and so it is called in the environment of the task.
 */
export function portsOf(task: TaskConfig): readonly Reserved[] {
  const { resources } = task;
  const isInGroup = groupNetns(task) !== undefined;
  const group = (resources?.ports ?? []).map(({ label, value, hostIp, to }) => ({
    label,
    hostIp,
    hostPort: value,
    ...(isInGroup ? { groupPort: to > 0 ? to : value } : {}),
  }));
  const own = (resources?.allocatedResources?.networks ?? []).flatMap((network) =>
    [...network.reservedPorts, ...network.dynamicPorts].map(({ label, value }) => ({
      label,
      hostIp: network.ip,
      hostPort: value,
    })),
  );
  const labels = new Set(group.map(({ label }) => label));
  return [...group, ...own.filter(({ label }) => !labels.has(label))];
}

/** The ports of `port_map` that lead to the guest, and what is reported of the others. */
export interface PortMap {
  readonly ports: readonly PortSpec[];
  readonly notes: readonly string[];
}

/**
 * Reads `port_map`. The builtin driver forwards nothing of it where the ports are the group's, so that jobs reserve the port
 * of their screen by it: that one stays the screen's.
 */
export function readPortMap(
  { port_map: maps = [] }: Raw,
  display: DisplaySpec | undefined,
  { task, report }: Job,
): PortMap {
  const known = Map.groupBy(portsOf(task), ({ label }) => label);
  const entries = maps.flatMap((map) => Object.entries(map));
  const mapped = entries.flatMap(([label, guestPort]) => {
    const ports = known.get(label) ?? [];
    if (ports.length === 0) report(`port_map.${label}`, `Unknown port label ${quoted(label)}`);
    return ports.map((port) => ({ ...port, guestPort }));
  });
  const screens = (display?.vnc?.listen ?? []).map(
    ({ hostPort, inGroup }) => inGroup?.port ?? hostPort,
  );
  const isScreens = ({ hostPort, groupPort }: PortSpec): boolean =>
    screens.includes(groupPort ?? hostPort);
  const labels = new Set(mapped.filter(isScreens).map(({ label }) => label));
  return {
    ports: mapped.filter((port) => !isScreens(port)),
    notes: [...labels].map(
      (label) =>
        `The port ${quoted(label)} of port_map is that of the screen, so it does not lead to the guest`,
    ),
  };
}
