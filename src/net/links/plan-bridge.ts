import type { Link } from '#netlink';
import type { ManagedNetwork } from '#spec';
import { NetError } from '../model/error.ts';
import { bridgeMac, ownAlias } from '../model/names.ts';

/** What was found under the name of a managed bridge. */
export interface BridgeFound {
  readonly kind: string | undefined;
  readonly alias: string;
  readonly mac: string;
  readonly mtu: number;
  readonly addresses: readonly { readonly address: string; readonly prefix: number }[];
}

/** `create` it, continue with our `own` one, or use a `foreign` one unchanged. */
export type BridgePlan = 'create' | 'own' | 'foreign';

export function planBridge(network: ManagedNetwork, found: BridgeFound | undefined): BridgePlan {
  const { bridge, address, prefix } = network;
  if (found === undefined) return 'create';
  if (found.kind !== 'bridge') {
    throw new NetError(
      'host',
      `link ${bridge} exists and is not a bridge (${found.kind ?? 'hardware'})`,
    );
  }
  const has = found.addresses.some((own) => own.address === address && own.prefix === prefix);
  // Ours but without its address: a start was interrupted between the two, and is taken up again.
  const ours = ownsBridge({ name: bridge, ...found });
  if (ours && (has || found.addresses.length === 0)) return 'own';
  if (has) return sameMtu(network, found.mtu);
  const its =
    found.addresses.map((own) => `${own.address}/${own.prefix}`).join(', ') || 'no address';
  throw new NetError(
    'host',
    `bridge ${bridge} exists with ${its}, but the network ${bridge} is configured as ${address}/${prefix}: ` +
      `configure the network with the bridge's own address, or give it another bridge`,
  );
}

function sameMtu({ bridge, mtu }: ManagedNetwork, found: number): BridgePlan {
  if (mtu === undefined || mtu === found) return 'foreign';
  throw new NetError(
    'host',
    `bridge ${bridge} exists with MTU ${found}, but the network ${bridge} is configured with mtu = ${mtu}: ` +
      `leave the key out, or change the bridge`,
  );
}

/** The driver's own bridge of that name, among links, where something else on the host has renamed it. */
export function renamedBridge(links: readonly Link[], bridge: string): Link | undefined {
  return links.find(
    ({ name, kind, alias, address }) =>
      name !== bridge && kind === 'bridge' && alias === ownAlias && address === bridgeMac(bridge),
  );
}

/**
 * Whether the driver made a bridge. Its MAC address is part of the message that creates it, and the alias is set after
 * that: either one identifies it, so that it is ours also when the process died between the two.
 */
export function ownsBridge(link: {
  readonly name: string;
  readonly kind: string | undefined;
  readonly alias: string;
  readonly mac: string;
}): boolean {
  if (link.kind !== 'bridge') return false;
  return link.alias === ownAlias || (link.alias === '' && link.mac === bridgeMac(link.name));
}
