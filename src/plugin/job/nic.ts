import { listed, type NicSpec, type PortSpec, quoted } from '#spec';
import type { TaskConfig } from '../gen/driver_pb.ts';
import type { Decoded, Fields } from '../hcl/schema.ts';
import type { Job } from './job.ts';

/** IFNAMSIZ is 16 with its NUL. */
const maxNameBytes = 15;

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
  const readPorts = portsOf(task);
  return blocks.flatMap(({ bridge }, index) => {
    const path = `network_interface[${index}]`;
    if (bridge === undefined) {
      report(`${path}.bridge`, 'is required');
      return [];
    }
    if (bridge.name === '') {
      report(path, `network interface bridge '${index}' requires name parameter`);
    } else if (Buffer.byteLength(bridge.name) > maxNameBytes) {
      report(`${path}.bridge.name`, `${quoted(bridge.name)} is longer than the name of any bridge`);
    }
    const ports = bridge.ports.flatMap((label, at) =>
      readPorts(label, (text) => report(`${path}.bridge.ports[${at}]`, text)),
    );
    return [{ kind: 'bridge', bridge: bridge.name, ports }];
  });
}

/** Finds the ports of a label: several where the node has several addresses. A job may ask for thousands. */
function portsOf({ resources }: TaskConfig) {
  const labelled = Map.groupBy(resources?.ports ?? [], ({ label }) => label);
  const known =
    labelled.size === 0 ? 'the group has no ports' : `there are ${listed([...labelled.keys()])}`;
  return (label: string, report: (text: string) => void): readonly PortSpec[] => {
    const ports = labelled.get(label);
    if (ports === undefined) report(`no port is labelled ${quoted(label)}; ${known}`);
    return (ports ?? []).map(({ hostIp, value, to }) => {
      // No `to`, or -1: the guest listens on the host's port number.
      const guestPort = to > 0 ? to : value;
      if (!isPort(value) || !isPort(guestPort)) report(`${value} to ${to} are not ports`);
      return { label, hostIp, hostPort: value, guestPort };
    });
  };
}

function isPort(value: number): boolean {
  return value > 0 && value < 65_536;
}
