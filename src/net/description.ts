/** A network that a job may name, for the node's attributes. */
export interface NetworkDescription {
  readonly name: string;
  readonly bridge: string;
  /** Jobs ask for `active` ones. */
  readonly state: 'active' | 'inactive';
}

// libvirt's name for the network that it has on this bridge, and which jobs for it ask for.
const known: Readonly<Record<string, string>> = { virbr0: 'default' };

/** The managed networks, which are there as soon as they are wanted, and the other bridges that a job may name. */
export function describeNetworks(
  managed: readonly string[],
  bridges: readonly string[],
): readonly NetworkDescription[] {
  const all = [...managed, ...bridges.filter((bridge) => !managed.includes(bridge))];
  return all.flatMap((bridge) => {
    const alias = known[bridge];
    const names = alias === undefined || all.includes(alias) ? [bridge] : [bridge, alias];
    return names.map((name) => ({ name, bridge, state: 'active' }) as const);
  });
}
