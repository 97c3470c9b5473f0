import {
  bridgeNameProblem,
  checkNetworks,
  type ManagedNetwork,
  networkMtu,
  quoted,
  splitAddress,
} from '#spec';
import type { Report } from '../hcl/problem.ts';
import type { Decoded, Fields } from '../hcl/schema.ts';

export const networkFields = {
  bridges: {
    kind: 'attr',
    type: 'list(string)',
    default: [],
    doc: 'Bridges that the driver does not manage and that jobs may name, beside the managed networks. VMs are not filtered on them: a guest there can take any address. None by default.',
    example: '["br0"]',
  },
  macvtap_devices: {
    kind: 'attr',
    type: 'list(string)',
    default: [],
    doc: 'Network devices of the host that jobs may name in `network_interface { macvtap { device } }`. VMs are not filtered there: a guest is like a machine with a cable to that network. None by default.',
    example: '["eno1"]',
  },
  managed_network: {
    kind: 'block-list',
    doc: 'A network the driver makes when the first VM asks for its bridge: the bridge, its address, source NAT (masquerading) for outgoing connections, and addresses for VMs. Without this block there is one: bridge `virbr0`, `192.168.122.1/24`. Bridges that exist already belong in `bridges`.',
    fields: {
      bridge: {
        kind: 'attr',
        type: 'string',
        required: true,
        doc: 'Name of the bridge, at most 15 letters, digits, dots, dashes and underscores; what a job writes in `network_interface { bridge { name } }`.',
        example: '"virbr0"',
      },
      address: {
        kind: 'attr',
        type: 'string',
        required: true,
        doc: 'IPv4 address of the host on it, with its prefix length (8 to 29). Networks must not overlap.',
        example: '"192.168.122.1/24"',
      },
      address6: {
        kind: 'attr',
        type: 'string',
        default: 'auto',
        doc: 'IPv6 address of the host on it, with its prefix length (48 to 120): each VM gets an IPv6 address too, by default at the same place in the network as its IPv4 address. `"auto"` is one in a private prefix made from the name of the bridge, and is IPv4 only on a host with IPv6 disabled; `"off"` is IPv4 only. Private addresses (fd00::/8) are translated to those of the host like IPv4, unless `nat` is off; global ones are routed as they are. Turns IPv6 forwarding on for the host.',
        example: '"fd12:3456:789a::1/64"',
      },
      nameservers: {
        kind: 'attr',
        type: 'list(string)',
        default: [],
        doc: "Name servers that DHCP and the seed give to VMs, those of IPv6 where the network has it, and that the driver's own name server asks. Default: the host's.",
        example: '["9.9.9.9"]',
      },
      isolate: {
        kind: 'attr',
        type: 'bool',
        default: false,
        doc: 'Whether VMs of this network are kept apart: they reach each other at published ports only.',
        example: 'true',
      },
      nat: {
        kind: 'attr',
        type: 'bool',
        default: true,
        doc: "Whether VMs have the host's address outside of it. With `false` they keep their own, to which your routers need a route; from outside they are reached at their published ports only, at the host's address and at their own.",
        example: 'false',
      },
      dhcp: {
        kind: 'attr',
        type: 'bool',
        default: true,
        doc: 'Whether the driver answers DHCP and DHCPv6 and sends router advertisements. With `false` only guests that read their cloud-init seed get an address, unless you run a DHCP server on the bridge.',
        example: 'false',
      },
      mtu: {
        kind: 'attr',
        type: 'number',
        ...networkMtu,
        doc: "MTU of the bridge and its VMs. Default: that of the host's default route, at most 1500.",
        example: '9000',
      },
      allow_host_ports: {
        kind: 'attr',
        type: 'list(string)',
        default: [],
        doc: 'Ports of the host that VMs may reach, beside DHCP and DNS: `"tcp/8500"`, `"udp/123"`, or a number for both.',
        example: '["tcp/8500", 123]',
      },
      dns: {
        kind: 'attr',
        type: 'bool',
        default: true,
        doc: "Whether VMs of the network find each other by host name: the driver answers DNS at the host's address in it, for its VMs only, and passes other questions on to `nameservers`.",
        example: 'true',
      },
      domain: {
        kind: 'attr',
        type: 'string',
        default: '',
        doc: 'The domain of these names, such as `web-1.virbr0.internal`. Default: the name of the bridge, and `.internal`.',
        example: '"lan.internal"',
      },
    },
  },
} as const satisfies Fields;

/** Bridges that jobs may name. */
export interface NetworksConfig {
  readonly managedNetworks: readonly ManagedNetwork[];
  /** Bridges of others, which the driver uses and does not manage. */
  readonly bridges: readonly string[];
  /** Devices of the host that VMs may have a macvtap on. */
  readonly macvtapDevices: readonly string[];
}

const defaultNetwork: ManagedNetwork = {
  bridge: 'virbr0',
  address: '192.168.122.1',
  prefix: 24,
  address6: 'auto',
};

export function readNetworks(raw: Decoded<typeof networkFields>, report: Report): NetworksConfig {
  const managedNetworks = readManaged(raw.managed_network, report);
  for (const [index, bridge] of raw.bridges.entries()) {
    const problem = bridgeNameProblem(bridge);
    if (problem !== undefined) report(`bridges[${index}]`, problem);
  }
  for (const [index, device] of raw.macvtap_devices.entries()) {
    if (!/^[^\s/]{1,15}$/.test(device)) {
      report(`macvtap_devices[${index}]`, `${quoted(device)} is not the name of a network device`);
    }
  }
  return { managedNetworks, bridges: raw.bridges, macvtapDevices: raw.macvtap_devices };
}

/**
 * The blocks as networks; without a block there is one. Reports everything that the network room would refuse when the
 * backend is made. That would be too late: without a backend no running VM can be stopped or removed.
 */
function readManaged(
  blocks: Decoded<typeof networkFields>['managed_network'],
  report: Report,
): readonly ManagedNetwork[] {
  if (blocks.length === 0) return [defaultNetwork];
  const networks = blocks.map(readOne);
  for (const { index, key, text } of checkNetworks(networks)) {
    report(`managed_network[${index}].${key}`, text);
  }
  return networks;
}

/** Without what is the default: the network's record on disk remains readable for earlier versions. */
function readOne(block: Decoded<typeof networkFields>['managed_network'][number]): ManagedNetwork {
  const {
    bridge,
    address,
    address6,
    nameservers,
    isolate,
    nat,
    dhcp,
    mtu,
    allow_host_ports,
    dns,
    domain,
  } = block;
  return {
    bridge,
    ...splitAddress(address),
    ...(address6 !== 'off' && { address6 }),
    ...(nameservers.length > 0 && { nameservers }),
    ...(allow_host_ports.length > 0 && { hostPorts: allow_host_ports }),
    ...(isolate && { isolate }),
    ...(!nat && { nat }),
    ...(!dhcp && { dhcp }),
    ...(mtu !== undefined && { mtu }),
    ...(!dns && { dns }),
    ...(domain !== '' && { domain }),
  };
}
