import { type NicModel, type NicSpec, type PortSpec, quoted, type VmSpec } from '#spec';
import type { HostForward } from '../../args/wish.ts';
import type { TaskConfig } from '../../gen/driver_pb.ts';
import type { Decoded } from '../../hcl/schema.ts';
import type { Job } from '../job.ts';
import { argKey, type Wishes } from './args.ts';
import type { builtinFields } from './fields.ts';

type Raw = Pick<Decoded<typeof builtinFields>, 'port_map'>;

interface Machine {
  readonly machine: string | undefined;
  readonly arch: VmSpec['arch'];
  /** The job has a `network_interface` of this driver. */
  readonly hasOwn: boolean;
}

/**
 * What QEMU's user-mode network is in jobs: as `args` have it, with the ports of `port_map`. Without either a guest has
 * it as well, like every guest of QEMU that is not told otherwise. Where there is a managed network the guest is in that
 * one, which leads to the world and not to the host.
 */
export function readUserNic(
  raw: Raw,
  { wishes, machine }: { readonly wishes: Wishes; readonly machine: Machine },
  job: Job,
): readonly NicSpec[] {
  const networks = wishes.all('netdev');
  const cards = wishes.all('card');
  checkNetworks(wishes, job);
  const mapped = readPortMap(raw, job);
  const isUsual =
    networks.length + cards.length === 0 && !wishes.has('no-defaults') && !wishes.has('no-network');
  // A network by id has no card until a device names it.
  const hasCard = cards.length > 0 || networks.some(({ id }) => id === undefined);
  const isWanted = hasCard || mapped.length > 0 || (isUsual && !machine.hasOwn);
  if (!isWanted) return [];
  const card = cards[0];
  const model =
    card === undefined && mapped.length > 0 ? 'virtio' : (card?.model ?? usual(machine));
  const known = portsOf(job.task);
  const forwarded = networks.flatMap(({ forwards, at }) =>
    forwards.map((forward) => portOf(forward, known, (text) => job.report(argKey(at), text))),
  );
  const nic = {
    ports: unique([...mapped, ...forwarded]),
    model,
    ...(card?.mac === undefined ? {} : { mac: card.mac }),
  };
  const bridge = job.builtin?.bridge;
  return [bridge === undefined ? { kind: 'user', ...nic } : { kind: 'bridge', bridge, ...nic }];
}

/** The card that QEMU gives each machine. */
function usual({ arch, machine = '' }: Machine): NicModel {
  if (arch === 'aarch64') return 'virtio';
  return machine.includes('q35') ? 'e1000e' : 'e1000';
}

function checkNetworks(wishes: Wishes, { report }: Job): void {
  const networks = wishes.all('netdev');
  const cards = wishes.all('card');
  const ids = networks.flatMap(({ id }) => id ?? []);
  for (const { netdev, at } of cards) {
    if (netdev !== undefined && !ids.includes(netdev)) {
      report(argKey(at), `there is no network with id=${netdev}`);
    }
  }
  // `-net user` and `-redir` are one network, as often as they are written.
  const several = networks.filter(({ id }, index) => id !== undefined && index > 0);
  for (const { at } of several.slice(0, 1)) {
    report(argKey(at), 'only one user-mode network is possible: its guests all have one address');
  }
  for (const { at } of cards.slice(1)) {
    report(argKey(at), 'only one card is possible in the user-mode network');
  }
}

/** The task's ports by label, from the group or from `resources { network }`. */
function portsOf({ resources }: TaskConfig): readonly Omit<PortSpec, 'guestPort'>[] {
  const group = (resources?.ports ?? []).map(({ label, value, hostIp }) => ({
    label,
    hostIp,
    hostPort: value,
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

function readPortMap({ port_map: maps = [] }: Raw, { task, report }: Job): readonly PortSpec[] {
  const known = portsOf(task);
  const entries = maps.flatMap((map) => Object.entries(map));
  return entries.flatMap(([label, guestPort]) => {
    const ports = known.filter((port) => port.label === label);
    if (ports.length === 0) report(`port_map.${label}`, `Unknown port label ${quoted(label)}`);
    return ports.map((port) => ({ ...port, guestPort }));
  });
}

const firstUnprivileged = 1024;

/** A port that the task has not reserved may be any that an ordinary process could listen on. */
function portOf(
  { hostIp, hostPort, guestPort }: HostForward,
  known: readonly Omit<PortSpec, 'guestPort'>[],
  report: (text: string) => void,
): PortSpec {
  const reserved = known.find((port) => port.hostPort === hostPort);
  if (reserved === undefined && hostPort < firstUnprivileged) {
    report(
      `hostfwd: the port ${hostPort} is not the task's: reserve it, port "x" { static = ${hostPort} }`,
    );
  }
  return { label: reserved?.label ?? `port-${hostPort}`, hostIp, hostPort, guestPort };
}

/** Each port once: a port is forwarded for TCP and UDP. */
function unique(ports: readonly PortSpec[]): readonly PortSpec[] {
  const seen = new Set<string>();
  return ports.filter(({ hostIp, hostPort }) => {
    const key = `${hostIp}:${hostPort}`;
    return seen.has(key) ? false : seen.add(key);
  });
}
