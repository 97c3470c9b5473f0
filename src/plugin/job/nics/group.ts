import { type NicSpec, quoted } from '#spec';
import { NetworkIsolationSpec_NetworkIsolationMode, type TaskConfig } from '../../gen/driver_pb.ts';
import type { Report } from '../../hcl/problem.ts';
import type { Decoded, Fields } from '../../hcl/schema.ts';
import type { ReadPorts } from './ports.ts';

export const groupNicFields = {
  group: {
    kind: 'block',
    doc: 'The network of the group, where it has one of its own: `network { mode = "bridge" }`, `"cni/…"` or `"none"`. An interface there is made without this block when the job has no interface at all; it has all ports of the group but those of mesh proxies and that of `display`.',
    fields: {
      ports: {
        kind: 'attr',
        type: 'list(string)',
        default: [],
        doc: "Labels of the group's `network { port }` blocks that lead to this guest, TCP and UDP. The others stay those of the other tasks of the group.",
        example: '["http"]',
      },
    },
  },
} as const satisfies Fields;

type Block = Decoded<typeof groupNicFields>['group'];

/** Where an interface is in the job, and what it is read with. */
interface Place {
  readonly path: string;
  readonly report: Report;
  readonly readPorts: ReadPorts;
}

/** Ports that Nomad adds to a group for Consul's proxies and for what they expose. */
const ofProxies = /^(connect-(proxy|ingress|mesh|terminating)-|svc_.*_ck_)/;

/** Path of the namespace that the tasks of the group share; undefined where they use the host's. */
export function groupNetns({ networkIsolationSpec: spec }: TaskConfig): string | undefined {
  const isShared = spec?.mode === NetworkIsolationSpec_NetworkIsolationMode.GROUP;
  return isShared ? spec.path : undefined;
}

/** The interface of a job that lists none. */
export function automaticNic(
  netns: string,
  { resources }: TaskConfig,
  {
    readPorts,
    displayPort,
  }: { readonly readPorts: ReadPorts; readonly displayPort?: string | undefined },
): NicSpec {
  const labels = new Set(resources?.ports.map(({ label }) => label));
  const own = [...labels].filter((label) => !ofProxies.test(label) && label !== displayPort);
  return { kind: 'group', netns, ports: readPorts(own, 'network.port') };
}

export function readGroupNic(
  { ports }: NonNullable<Block>,
  netns: string | undefined,
  { path, report, readPorts }: Place,
): NicSpec | undefined {
  const read = readPorts(ports, `${path}.group.ports`);
  if (netns !== undefined) return { kind: 'group', netns, ports: read };
  report(
    `${path}.group`,
    'the group has no network of its own: give it network { mode = "bridge" }, or use bridge or user here',
  );
  return undefined;
}

/** The host's ports lead into the group's network, before anything that a bridge or QEMU could do with them. */
export function refusePortsElsewhere(
  kind: 'bridge' | 'user',
  ports: readonly string[],
  { path, report }: Place,
): void {
  const [first] = ports;
  if (first === undefined) return;
  report(
    `${path}.${kind}.ports`,
    `${quoted(first)} leads to the network of the group: list it in network_interface { group { ports = [${quoted(first)}] } }`,
  );
}
