export type Protocol = 'tcp' | 'udp';

/** One mapped port. `hostIp` is '' for every local address. */
export interface PortSpec {
  readonly label: string;
  readonly hostIp: string;
  readonly hostPort: number;
  readonly guestPort: number;
  /** In the network of a group: its number there, where that is not the guest's. */
  readonly groupPort?: number;
  /** Both when left out: Nomad's ports have none. */
  readonly protocol?: Protocol;
}

export function protocolsOf({ protocol }: Pick<PortSpec, 'protocol'>): readonly Protocol[] {
  return protocol === undefined ? ['tcp', 'udp'] : [protocol];
}

/** The network cards that a guest may see; from `e1000-82544gc` on they are of older systems, for jobs of the builtin driver. */
export const nicModels = [
  'virtio',
  'e1000',
  'e1000e',
  'rtl8139',
  'vmxnet3',
  'e1000-82544gc',
  'e1000-82545em',
  'i82551',
  'i82557b',
  'i82559er',
  'ne2k_pci',
  'pcnet',
  'tulip',
] as const;

export type NicModel = (typeof nicModels)[number];

/** Maximum of bytes in a packet that a card and its usual drivers carry. */
export function maxMtuOf(model: NicModel = 'virtio'): number {
  switch (model) {
    case 'virtio':
      return 65_535;
    case 'e1000':
    case 'e1000e':
    case 'e1000-82544gc':
    case 'e1000-82545em':
      // Of the drivers in Linux: E1000_MAX_NIC_SIZE and the like, without header and checksum.
      return 16_110;
    case 'vmxnet3':
      // VMXNET3_MAX_MTU
      return 9000;
    default:
      return 1500;
  }
}

/** A network interface of a VM. Each kind is another way out of it; the index in the VM's list counts them all. */
export type NicSpec = BridgeNic | UserNic | MacvtapNic | GroupNic;

/** Maximum of bytes per second to the guest (`in`) and from it (`out`); what is left out is not limited. */
export interface Bandwidth {
  readonly in?: number;
  readonly out?: number;
}

/** What an interface of any kind may have. */
export interface NicCommon {
  /** `virtio` when left out. */
  readonly model?: NicModel;
  /** In lower case. When left out it follows from the VM's name and the interface's index. */
  readonly mac?: string;
  /** At most that of the network and of the card, of which the smaller one is used when it is left out. */
  readonly mtu?: number;
  /** Of a virtio card; 1 when left out. */
  readonly queues?: number;
  /** Not of the user-mode network. */
  readonly bandwidth?: Bandwidth;
  /** The guest's default route goes through it. At most one of a VM's; when none is marked, the first. */
  readonly defaultRoute?: true;
}

/** Addresses that the job gives the guest. Where the driver manages no network, each goes with its `fixed` part. */
export interface JobAddresses {
  readonly ip?: string;
  /** In the form of RFC 5952, as its gateway and its name servers. */
  readonly ip6?: string;
  readonly fixed?: {
    readonly prefix: number;
    readonly gateway?: string;
    readonly nameservers: readonly string[];
  };
  readonly fixed6?: {
    readonly prefix: number;
    readonly gateway?: string;
    /** Where there is no `fixed`. */
    readonly nameservers?: readonly string[];
  };
}

/** A tap in a bridge of the host. */
export interface BridgeNic extends NicCommon, JobAddresses {
  readonly kind: 'bridge';
  readonly bridge: string;
  readonly ports: readonly PortSpec[];
}

/** The guest's address in every user-mode network. */
export const userAddress = '10.0.2.15';

/** QEMU's user-mode network: nothing on the host but the sockets that QEMU listens on. At most one of a VM's. */
export interface UserNic extends NicCommon {
  readonly kind: 'user';
  readonly ports: readonly PortSpec[];
}

export const macvtapModes = ['bridge', 'private', 'vepa', 'passthrough'] as const;

/** A link of its own on a device of the host: the guest is on the device's network. */
export interface MacvtapNic extends NicCommon, JobAddresses {
  readonly kind: 'macvtap';
  readonly device: string;
  readonly mode: (typeof macvtapModes)[number];
  /** None: the driver knows no address there that it could forward to. */
  readonly ports: readonly [];
}

/** A tap in the network namespace that the tasks of an allocation share. At most one of a VM's. */
export interface GroupNic extends NicCommon {
  readonly kind: 'group';
  /** Path of the namespace. */
  readonly netns: string;
  /** In the namespace a port has its `groupPort`, else the guest's number: the host's was translated before. */
  readonly ports: readonly PortSpec[];
}
