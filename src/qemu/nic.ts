import { device, option, type Part } from './part.ts';

export interface NicDescription {
  /** Counts a VM's NICs from 0. */
  readonly index: number;
  readonly mac: string;
  /** Left out: Ethernet's 1500 bytes. */
  readonly mtu?: number;
}

/** A NIC on a tap. File: `tap<index>`. */
export function nic({ index, mac, mtu }: NicDescription): Part {
  const id = `net${index}`;
  const tap = `tap${index}`;
  return {
    id,
    files: [{ role: tap, as: 'fd' }],
    options: (at) => [
      // As text: this option accepts JSON only since QEMU 7.2.
      option('netdev', `tap,id=${id},fd=${at.fd(tap)},vhost=off`),
      device({
        driver: 'virtio-net-pci',
        netdev: id,
        id: `nic${index}`,
        mac,
        // No option ROM: the VM boots from its disk, and the ROM costs start time.
        romfile: '',
        ...(mtu === undefined || mtu === 1500 ? {} : { host_mtu: mtu }),
      }),
    ],
  };
}
