import type { NicSpec } from '#spec';
import type { NetworksOptions } from '../model/net.ts';

/** What the operator lets VMs be plugged into. */
export interface Allowed {
  /** Bridges that are not the driver's. */
  readonly bridges: readonly string[];
  /** The bridges of managed networks. */
  readonly managed: readonly string[];
  /** Devices for macvtap. */
  readonly devices: readonly string[];
}

export function allowedBy(options: NetworksOptions): Allowed {
  const { managed, bridges, macvtapDevices: devices = [] } = options;
  return { bridges, managed: managed.map(({ bridge }) => bridge), devices };
}

/** Why no VM may have such a NIC; undefined where one may. */
export function nicProblem(nic: NicSpec, allowed: Allowed): string | undefined {
  if (nic.kind === 'bridge') return bridgeProblem(nic.bridge, allowed);
  return nic.kind === 'macvtap' ? deviceProblem(nic.device, allowed) : undefined;
}

export function bridgeProblem(
  bridge: string,
  { bridges, managed }: Pick<Allowed, 'bridges' | 'managed'>,
): string | undefined {
  if (bridges.includes(bridge) || managed.includes(bridge)) return undefined;
  return (
    `bridge ${bridge} is not a managed network (there are: ${named(managed)}), and not among the other ` +
    `bridges that this agent allows (${named(bridges)}): an operator allows it with bridges = ["${bridge}"], or ` +
    `makes it a network of the driver's with managed_network { bridge = "${bridge}" … }, in the plugin's configuration`
  );
}

export function deviceProblem(
  device: string,
  { devices }: Pick<Allowed, 'devices'>,
): string | undefined {
  if (devices.includes(device)) return undefined;
  return (
    `device ${device} is not among those that this agent allows for macvtap (${named(devices)}): ` +
    `an operator allows it with macvtap_devices = ["${device}"] in the plugin's configuration`
  );
}

/** Names in a message. */
export function named(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.join(', ');
}
