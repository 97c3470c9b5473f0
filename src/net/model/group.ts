import * as v from 'valibot';
import type { GuestDns, PortSpec } from '#spec';

/** A NIC that a VM asks for in the network namespace that its allocation's tasks share. */
export interface GroupNicRequest {
  readonly vm: string;
  /** Counts a VM's NICs from 0. */
  readonly index: number;
  /** Path of the namespace. */
  readonly netns: string;
  /** In the namespace a port has the guest's number: the host's number is translated before. */
  readonly ports: readonly PortSpec[];
  readonly hostname: string;
  readonly dns?: GuestDns | undefined;
}

const groupRecord = v.object({
  netns: v.string(),
  /** The namespace's end of the guest's link. */
  gateway: v.string(),
  /** The guest's own address, which only the namespace knows. */
  guest: v.string(),
  mtu: v.number(),
  hostname: v.string(),
  nameservers: v.array(v.string()),
  searches: v.array(v.string()),
  ports: v.array(v.object({ label: v.string(), guestPort: v.number() })),
});

type GroupRecord = v.InferOutput<typeof groupRecord>;

/** A NIC in an allocation's namespace, with all that its rules and its DHCP replies are made from. */
export interface GroupNic extends GroupRecord {
  readonly vm: string;
  readonly index: number;
  readonly tap: string;
  readonly mac: string;
}
