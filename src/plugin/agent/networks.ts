import { bridgeNameProblem, checkNetworks, type ManagedNetwork, splitAddress } from '#spec';
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
      nameservers: {
        kind: 'attr',
        type: 'list(string)',
        default: [],
        doc: "IPv4 name servers that DHCP and the seed give to VMs. Default: the host's.",
        example: '["9.9.9.9"]',
      },
    },
  },
} as const satisfies Fields;

/** Bridges that jobs may name. */
export interface NetworksConfig {
  readonly managedNetworks: readonly ManagedNetwork[];
  /** Bridges of others, which the driver uses and does not manage. */
  readonly bridges: readonly string[];
}

const defaultNetwork: ManagedNetwork = { bridge: 'virbr0', address: '192.168.122.1', prefix: 24 };

export function readNetworks(raw: Decoded<typeof networkFields>, report: Report): NetworksConfig {
  const managedNetworks = readManaged(raw.managed_network, report);
  for (const [index, bridge] of raw.bridges.entries()) {
    const problem = bridgeNameProblem(bridge);
    if (problem !== undefined) report(`bridges[${index}]`, problem);
  }
  return { managedNetworks, bridges: raw.bridges };
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
  const networks = blocks.map(({ bridge, address, nameservers }) => ({
    bridge,
    ...splitAddress(address),
    ...(nameservers.length === 0 ? {} : { nameservers }),
  }));
  for (const { index, key, text } of checkNetworks(networks)) {
    report(`managed_network[${index}].${key}`, text);
  }
  return networks;
}
