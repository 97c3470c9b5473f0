import { formatIpv4, type NicModel, type PortSpec, parseIpv4 } from '#spec';
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

/** What QEMU connects the card to. File of a tap: `tap<index>`. */
type NicBackend =
  | { readonly kind: 'tap' }
  | { readonly kind: 'user'; readonly ports: readonly Forward[] };

type Forward = Pick<PortSpec, 'hostIp' | 'hostPort' | 'guestPort'>;

const drivers: Readonly<Record<NicModel, string>> = {
  virtio: 'virtio-net-pci',
  e1000e: 'e1000e',
  rtl8139: 'rtl8139',
  vmxnet3: 'vmxnet3',
};

const protocols = ['tcp', 'udp'] as const;

export function nic(description: NicDescription): Part {
  const { index, mac, model = 'virtio', backend } = description;
  const id = `net${index}`;
  const card = device({
    driver: drivers[model],
    netdev: id,
    id: `nic${index}`,
    mac,
    // No option ROM: the VM boots from its disk, and the ROM costs start time.
    romfile: '',
    ...hostMtu(description),
  });
  switch (backend.kind) {
    case 'tap': {
      const tap = `tap${index}`;
      return {
        id,
        files: [{ role: tap, as: 'fd' }],
        // As text, here and below: this option accepts JSON only since QEMU 7.2.
        options: (at) => [option('netdev', `tap,id=${id},fd=${at.fd(tap)},vhost=off`), card],
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

/** Other cards have no field for it. */
function hostMtu({ mtu, model = 'virtio' }: NicDescription): Json {
  return mtu === undefined || mtu === 1500 || model !== 'virtio' ? {} : { host_mtu: mtu };
}

/**
 * `restrict`: QEMU opens no connection for the guest, which would otherwise reach everything that the host reaches, and
 * at 10.0.2.2 the host's own loopback. Nothing of it is text from a job.
 */
function userMode(id: string, ports: readonly Forward[]): string {
  const forwards = ports.flatMap(({ hostIp, hostPort, guestPort }) => {
    const host = hostIp === '' ? '' : formatIpv4(parseIpv4(hostIp) ?? 0);
    return protocols.map(
      (protocol) => `hostfwd=${protocol}:${host}:${hostPort}-10.0.2.15:${guestPort}`,
    );
  });
  return [`user,id=${id}`, 'ipv6=off', 'restrict=on', ...forwards].join(',');
}
