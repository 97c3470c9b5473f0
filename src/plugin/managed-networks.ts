import { checkNetworks, type ManagedNetwork, splitAddress } from '#spec';
import type { pluginSchema } from './config-schema.ts';
import type { Complain } from './decode-fields.ts';
import type { Decoded } from './schema.ts';

type Block = Decoded<typeof pluginSchema>['managed_network'][number];

const defaultNetwork: ManagedNetwork = { bridge: 'virbr0', address: '192.168.122.1', prefix: 24 };

/**
 * The blocks as networks; without a block there is one. Reports all that the network room would refuse when the
 * backend is made: there it would be too late, for without a backend no running VM can be stopped or removed.
 */
export function readNetworks(
  blocks: readonly Block[],
  complain: Complain,
): readonly ManagedNetwork[] {
  if (blocks.length === 0) return [defaultNetwork];
  const networks = blocks.map(({ bridge, address, nameservers }) => ({
    bridge,
    ...splitAddress(address),
    ...(nameservers.length === 0 ? {} : { nameservers }),
  }));
  for (const { index, key, text } of checkNetworks(networks)) {
    complain(`managed_network[${index}].${key}`, text);
  }
  return networks;
}
