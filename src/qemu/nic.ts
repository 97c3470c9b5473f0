import {
  formatIpv4,
  type NicModel,
  nicModels,
  type PortSpec,
  parseIpv4,
  protocolsOf,
  userAddress,
} from '#spec';
import type { Emulator } from './emulator.ts';
import { device, type Json, option, type Part } from './part.ts';

export interface NicDescription {
  /** Counts a VM's NICs from 0. */
  readonly index: number;
  readonly mac: string;
  /** Left out: Ethernet's 1500 bytes. */
  readonly mtu?: number;
  /** Left out: virtio. */
  readonly model?: NicModel;
  readonly backend: NicBackend;
}

/** What QEMU connects the card to. Files of a tap, one a queue: see `tapRoles` and, with vhost, `vhostRoles`. */
type NicBackend =
  | { readonly kind: 'tap'; readonly queues?: number; readonly vhost?: boolean }
  | { readonly kind: 'user'; readonly ports: readonly Forward[] };

type Forward = Omit<PortSpec, 'label'>;

/** Why an emulator does not have a card; undefined when it has. */
export function missingModel(
  model: NicModel,
  { path, devices }: Pick<Emulator, 'path' | 'devices'>,
): string | undefined {
  const isThere = (name: NicModel): boolean => devices.has(driverOf(name));
  if (isThere(model)) return undefined;
  const known = nicModels.filter(isThere).join(', ');
  return `"${model}" is not available in ${path}; there are: ${known}`;
}

/** All but one are called like their devices. */
function driverOf(model: NicModel): string {
  return model === 'virtio' ? 'virtio-net-pci' : model;
}

const idPrefix = 'net';

/** The number of the NIC that a part's id stands for, as it is recorded. */
export function nicIndexOf(id: string): number {
  return Number(id.slice(idPrefix.length));
}

export function nic(description: NicDescription): Part {
  const { index, mac, model = 'virtio', backend } = description;
  const id = `${idPrefix}${index}`;
  const card = device({
    driver: driverOf(model),
    netdev: id,
    id: `nic${index}`,
    mac,
    // No option ROM: the VM boots from its disk, and the ROM costs start time.
    romfile: '',
    ...hostMtu(description),
    ...manyQueues(backend),
  });
  switch (backend.kind) {
    case 'tap': {
      const taps = tapRoles(index, backend.queues);
      const vhosts = backend.vhost === true ? vhostRoles(index, backend.queues) : [];
      return {
        id,
        files: [...taps, ...vhosts].map((role) => ({ role, as: 'fd' })),
        threads: vhosts.length,
        options: (at) => {
          const numbers = (roles: readonly string[]) => roles.map((role) => at.fd(role));
          return [option('netdev', tap(id, numbers(taps), numbers(vhosts))), card];
        },
      };
    }
    case 'user': {
      const netdev = option('netdev', userMode(id, backend.ports));
      return { id, files: [], network: true, options: () => [netdev, card] };
    }
    default:
      return backend satisfies never;
  }
}

/** The roles of a tap's files, one for each queue. */
export function tapRoles(index: number, queues = 1): readonly string[] {
  return Array.from({ length: queues }, (_, queue) =>
    queue === 0 ? `tap${index}` : `tap${index}-${queue}`,
  );
}

/** The roles of the descriptors by which the kernel serves these queues itself. */
export function vhostRoles(index: number, queues = 1): readonly string[] {
  return tapRoles(index, queues).map((role) => `vhost-${role}`);
}

type Fds = readonly (number | string)[];

/** As text, here and below: this option accepts JSON only since QEMU 7.2. */
function tap(id: string, taps: Fds, vhosts: Fds): string {
  const vhost = vhosts.length === 0 ? 'vhost=off' : `vhost=on,${fdsAs('vhostfd', vhosts)}`;
  return `tap,id=${id},${fdsAs('fd', taps)},${vhost}`;
}

function fdsAs(key: string, fds: Fds): string {
  return fds.length === 1 ? `${key}=${fds[0]}` : `${key}s=${fds.join(':')}`;
}

/** Two interrupts for each pair of queues, one for the control queue and one for changes of the configuration. */
function manyQueues(backend: NicBackend): Json {
  if (backend.kind !== 'tap' || backend.queues === undefined || backend.queues === 1) return {};
  return { mq: true, vectors: 2 * backend.queues + 2 };
}

/** Other cards have no field for it. */
function hostMtu({ mtu, model = 'virtio' }: NicDescription): Json {
  return mtu === undefined || mtu === 1500 || model !== 'virtio' ? {} : { host_mtu: mtu };
}

/**
 * `restrict`: QEMU opens no connection for the guest, which would otherwise reach everything that the host reaches, and
 * at 10.0.2.2 the host's own loopback. Nothing of it is text from a job.
 */
function userMode(id: string, ports: readonly Forward[]): string {
  const forwards = ports.flatMap((port) => {
    const { hostIp, hostPort, guestPort } = port;
    const host = hostIp === '' ? '' : formatIpv4(parseIpv4(hostIp) ?? 0);
    return protocolsOf(port).map(
      (protocol) => `hostfwd=${protocol}:${host}:${hostPort}-${userAddress}:${guestPort}`,
    );
  });
  return [`user,id=${id}`, 'ipv6=off', 'restrict=on', ...forwards].join(',');
}
