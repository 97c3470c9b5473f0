import { type NicModel, type NicSpec, type PortSpec, protocolsOf, type VmSpec } from '#spec';
import type { PlacedWish } from '../../args/read-args.ts';
import type { CardWish, HostForward, NetdevWish } from '../../args/wish.ts';
import type { TaskConfig } from '../../gen/driver_pb.ts';
import type { Job } from '../job.ts';
import { groupNetns } from '../nics/group.ts';
import { withPlaces } from '../places.ts';
import { argKey, type Wishes } from './args.ts';
import { portsOf, type Reserved } from './reserved-ports.ts';

interface Machine {
  readonly machine: string | undefined;
  readonly arch: VmSpec['arch'];
  /** The job has a `network_interface` of this driver. */
  readonly hasOwn: boolean;
}

type Network = PlacedWish & NetdevWish;
type Card = PlacedWish & CardWish;

/**
 * The networks of `args`, in the order of their cards, and the ports of `port_map`. Without any a guest has QEMU's
 * user-mode network, like every guest of QEMU without other options.
 */
export function readArgNics(
  mapped: readonly PortSpec[],
  { wishes, machine }: { readonly wishes: Wishes; readonly machine: Machine },
  job: Job,
): readonly NicSpec[] {
  checkNetworks(wishes, job);
  const onBridge = withPlaces(onBridges(wishes), { key: 'args', what: 'interfaces', ...job });
  const bridges = onBridge.map(({ network, card }) => ({
    at: card?.at ?? network.at,
    nic: { kind: 'bridge', bridge: network.bridge, ports: [], ...cardOf(card, machine) } as const,
  }));
  const user = readUserNic(mapped, { wishes, machine }, job);
  return [...user, ...bridges].toSorted((a, b) => a.at - b.at).map(({ nic }) => nic);
}

/** Networks that are a bridge of the host. One by id is nothing until a card names it. */
function onBridges(wishes: Wishes) {
  const cards = wishes.all('card');
  return wishes.all('netdev').flatMap((network) => {
    const { bridge, id } = network;
    const card = cards.find(({ netdev }) => netdev === id);
    if (bridge === undefined || (card === undefined && id !== undefined)) return [];
    return [{ network: { ...network, bridge }, card }];
  });
}

function cardOf(card: Card | undefined, machine: Machine): Pick<NicSpec, 'model' | 'mac'> {
  const { mac } = card ?? {};
  return { model: card?.model ?? usual(machine), ...(mac === undefined ? {} : { mac }) };
}

/**
 * QEMU's user-mode network with the ports of `port_map`. In the network of a group it is an interface there. Where there
 * is a managed network the guest is in that one, which leads to the world and not to the host.
 */
function readUserNic(
  mapped: readonly PortSpec[],
  { wishes, machine }: { readonly wishes: Wishes; readonly machine: Machine },
  job: Job,
): readonly { readonly at: number; readonly nic: NicSpec }[] {
  const { network, card, networks } = ofUser(wishes);
  const options = ['netdev', 'card', 'no-defaults', 'no-network'] as const;
  const isUsual = options.every((kind) => !wishes.has(kind)) && !machine.hasOwn;
  // A network by id has no card until a device names it.
  const hasCard = card !== undefined || (network !== undefined && network.id === undefined);
  if (!hasCard && mapped.length === 0 && !isUsual) return [];
  const reserved = Map.groupBy(
    portsOf(job.task),
    ({ groupPort, hostPort }) => groupPort ?? hostPort,
  );
  const forwarded = networks.flatMap(({ forwards, at }) =>
    forwards.map((forward) => {
      const [port] = reserved.get(forward.hostPort) ?? [];
      return portOf(forward, port, { ...job, report: (text) => job.report(argKey(at), text) });
    }),
  );
  const withPorts = card === undefined && mapped.length > 0 ? { model: 'virtio' as const } : {};
  const nic = {
    ports: unique([...withoutForwarded(mapped, forwarded), ...forwarded]),
    ...cardOf(card, machine),
    ...withPorts,
  };
  const at = card?.at ?? network?.at ?? 0;
  const netns = groupNetns(job.task);
  if (netns !== undefined) return [{ at, nic: { kind: 'group', netns, ...nic } }];
  const bridge = job.builtin?.bridge;
  if (bridge !== undefined) return [{ at, nic: { kind: 'bridge', bridge, ...nic } }];
  return [{ at, nic: { kind: 'user', ...nic } }];
}

/** The user-mode network, as often as it is written, and its card: one that no bridge has. */
function ofUser(wishes: Wishes): {
  readonly networks: readonly Network[];
  readonly network: Network | undefined;
  readonly card: Card | undefined;
} {
  const networks = wishes.all('netdev').filter(({ bridge }) => bridge === undefined);
  const onBridge = wishes.all('netdev').filter(({ bridge }) => bridge !== undefined);
  const others = onBridge.map(({ id }) => id);
  const card = wishes.all('card').find(({ netdev }) => !others.includes(netdev));
  return { network: networks.find(({ id }) => id === undefined) ?? networks[0], card, networks };
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
  const user = networks.filter(({ bridge }) => bridge === undefined);
  const several = user.filter(({ id }, index) => id !== undefined && index > 0);
  for (const { at } of several.slice(0, 1)) {
    report(argKey(at), 'only one user-mode network is possible: its guests all have one address');
  }
  const names = networks.flatMap(({ bridge, id }) => (bridge === undefined ? [] : [id]));
  for (const [index, { netdev, at }] of cards.entries()) {
    const isSame = (other: Card): boolean =>
      netdev === other.netdev || (!names.includes(netdev) && !names.includes(other.netdev));
    if (cards.slice(0, index).some(isSame)) report(argKey(at), 'its network has a card already');
  }
  const mixed = networks.filter(({ id }) => id === undefined);
  const different = mixed.find(({ bridge }) => bridge !== mixed[0]?.bridge);
  if (different !== undefined) {
    report(argKey(different.at), '-net has one network: give each an id, with -netdev and -device');
  }
}

const firstUnprivileged = 1024;

/**
 * A port that the task has not reserved may be any that an ordinary process could listen on. In the network of a group it
 * is one of that network.
 */
function portOf(
  { hostIp, hostPort, guestPort, protocol }: HostForward,
  reserved: Reserved | undefined,
  { task, report }: { readonly task: TaskConfig; readonly report: (text: string) => void },
): PortSpec {
  const isInGroup = groupNetns(task) !== undefined;
  const label = reserved?.label ?? `port-${hostPort}`;
  if (isInGroup) {
    return {
      label,
      hostIp,
      hostPort: reserved?.hostPort ?? hostPort,
      guestPort,
      groupPort: hostPort,
    };
  }
  if (reserved === undefined && hostPort < firstUnprivileged) {
    report(
      `hostfwd: the port ${hostPort} is not the task's: reserve it, port "x" { static = ${hostPort} }`,
    );
  }
  return { label, hostIp, hostPort, guestPort, protocol };
}

/**
 * What of `port_map` no `hostfwd` has. Jobs write both, for the builtin driver forwards nothing of `port_map` where the ports
 * are the group's; without an address `hostfwd` has every one of the host.
 */
function withoutForwarded(
  mapped: readonly PortSpec[],
  forwarded: readonly PortSpec[],
): readonly PortSpec[] {
  const numberOf = ({ groupPort, hostPort }: PortSpec): number => groupPort ?? hostPort;
  return mapped.flatMap((port) => {
    const same = forwarded.filter(
      (other) => numberOf(other) === numberOf(port) && ['', port.hostIp].includes(other.hostIp),
    );
    if (same.length === 0) return [port];
    const taken = same.flatMap(protocolsOf);
    return protocolsOf(port)
      .filter((protocol) => !taken.includes(protocol))
      .map((protocol) => ({ ...port, protocol }));
  });
}

/** Each port once for each protocol: those of `port_map`, which come first, are for TCP and UDP. */
function unique(ports: readonly PortSpec[]): readonly PortSpec[] {
  const seen = new Set<string>();
  return ports.filter((port) => {
    const keys = protocolsOf(port).map((each) => `${each}:${port.hostIp}:${port.hostPort}`);
    const isNew = keys.some((key) => !seen.has(key));
    for (const key of keys) seen.add(key);
    return isNew;
  });
}
