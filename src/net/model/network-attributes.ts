// libvirt's name for the network that it has on this bridge; jobs written for it ask for that name.
const aliases: Readonly<Record<string, string>> = { virbr0: 'default' };

/**
 * The node attributes of each network that a job may name: the managed ones, which count as active because the first VM
 * makes them, and other bridges that exist and are allowed.
 */
export function networkAttributes(
  managed: readonly string[],
  bridges: readonly string[],
): Readonly<Record<string, string>> {
  const all = [...managed, ...bridges.filter((bridge) => !managed.includes(bridge))];
  const entries = all.flatMap((bridge) => {
    const alias = aliases[bridge];
    const names = alias === undefined || all.includes(alias) ? [bridge] : [bridge, alias];
    return names.flatMap((name) => [
      [`network.${name}.state`, 'active'],
      [`network.${name}.bridge_name`, bridge],
    ]);
  });
  return Object.fromEntries(entries);
}
