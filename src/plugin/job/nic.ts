import type { NicSpec, PortSpec } from '#spec';
import type { TaskConfig } from '../gen/driver_pb.ts';
import type { Decoded, Fields } from '../hcl/schema.ts';
import type { Job } from './job.ts';

export const nicFields = {
  network_interface: {
    kind: 'block-list',
    doc: 'A network interface of the guest; at most one. Without it the guest has none.',
    fields: {
      bridge: {
        kind: 'block',
        doc: 'The host bridge the interface is on. Required.',
        fields: {
          name: {
            kind: 'attr',
            type: 'string',
            required: true,
            doc: 'Name of the bridge: a managed network, or one that the agent allows with `bridges`.',
            example: '"virbr0"',
          },
          ports: {
            kind: 'attr',
            type: 'list(string)',
            default: [],
            doc: "Labels of the group's `network { port }` blocks that are forwarded to this guest, TCP and UDP. The guest's port is `to`, or that of the host when `to` is not set.",
            example: '["http"]',
          },
        },
      },
    },
  },
} as const satisfies Fields;

export function readNics(
  { network_interface: blocks }: Decoded<typeof nicFields>,
  { task, report }: Job,
): readonly NicSpec[] {
  if (blocks.length > 1) {
    report('network_interface', 'only one network interface can be configured');
  }
  return blocks.flatMap(({ bridge }, index) => {
    const path = `network_interface[${index}]`;
    if (bridge === undefined) {
      report(`${path}.bridge`, 'is required');
      return [];
    }
    if (bridge.name === '') {
      report(path, `network interface bridge '${index}' requires name parameter`);
    }
    const ports = bridge.ports.flatMap((label, at) =>
      readPort(task, label, (text) => report(`${path}.bridge.ports[${at}]`, text)),
    );
    return [{ kind: 'bridge', bridge: bridge.name, ports }];
  });
}

function readPort(task: TaskConfig, label: string, report: (text: string) => void): PortSpec[] {
  const ports = task.resources?.ports ?? [];
  const labelled = ports.filter((port) => port.label === label);
  if (labelled.length === 0) {
    const labels = [...new Set(ports.map((port) => port.label))];
    const there = labels.length === 0 ? 'the group has no ports' : `there are ${labels.join(', ')}`;
    report(`no port is labelled ${JSON.stringify(label)}; ${there}`);
  }
  return labelled.map(({ hostIp, value, to }) => {
    // No `to`, or -1: the guest listens on the host's port number.
    const guestPort = to > 0 ? to : value;
    if (!isPort(value) || !isPort(guestPort)) report(`${value} to ${to} are not ports`);
    return { label, hostIp, hostPort: value, guestPort };
  });
}

function isPort(value: number): boolean {
  return value > 0 && value < 65_536;
}
