/** A network that a job may name, for the node's attributes. */
export interface NetworkDescription {
  readonly name: string;
  readonly bridge: string;
  /** Jobs ask for `active` ones. */
  readonly state: 'active' | 'inactive';
}

// Docker, CNI, Nomad, Podman and LXC make and remove these as containers come and go: each would be news of the node.
const ofContainers =
  /^(docker0|docker_gwbridge|br-[0-9a-f]{12}|cni.*|nomad|podman\d+|lxcbr\d+|veth.*)$/;
// libvirt's name for the network that it has on this bridge, and which jobs for it ask for.
const known: Readonly<Record<string, string>> = { virbr0: 'default' };

/** The managed networks, which are there as soon as they are wanted, and the bridges that somebody else made. */
export function describeNetworks(
  managed: readonly string[],
  bridges: readonly string[],
): readonly NetworkDescription[] {
  const others = bridges.filter(
    (bridge) => !managed.includes(bridge) && !ofContainers.test(bridge),
  );
  const all = [...managed, ...others];
  return all.flatMap((bridge) => {
    const alias = known[bridge];
    const names = alias === undefined || all.includes(alias) ? [bridge] : [bridge, alias];
    return names.map((name) => ({ name, bridge, state: 'active' }) as const);
  });
}
