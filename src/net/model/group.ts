import * as v from 'valibot';

const groupRecord = v.object({
  tap: v.string(),
  mac: v.string(),
  /** The allocation's address, at which the ports are reached; IPv6 where it has no other, absent where it has none. */
  ip: v.exactOptional(v.string()),
  /** The same three addresses for IPv6, in a namespace that has one. */
  six: v.exactOptional(v.object({ ip: v.string(), gateway: v.string(), guest: v.string() })),
  /** Port label → port of the guest. */
  portMap: v.record(v.string(), v.number()),
  /** Port label → port of the namespace, where it is not the guest's. */
  groupPorts: v.exactOptional(v.record(v.string(), v.number())),
  /** Path of the namespace. */
  netns: v.string(),
  /** The namespace's end of the guest's link. */
  gateway: v.string(),
  /** The guest's own address, which only the namespace knows. */
  guest: v.string(),
  mtu: v.number(),
  hostname: v.string(),
  nameservers: v.array(v.string()),
  searches: v.array(v.string()),
});

/** A NIC in an allocation's namespace as JSON, with all that its rules and its DHCP replies are made from. */
export type GroupNicRecord = v.InferOutput<typeof groupRecord> & { readonly kind: 'group-nic' };

export interface GroupNic extends v.InferOutput<typeof groupRecord> {
  readonly vm: string;
  /** Counts a VM's NICs from 0. */
  readonly index: number;
}

/** The ports of the namespace and those of the guest that they lead to. */
export function portsInGroup({
  portMap,
  groupPorts = {},
}: Pick<GroupNic, 'portMap' | 'groupPorts'>): readonly {
  readonly port: number;
  readonly guestPort: number;
}[] {
  return Object.entries(portMap).map(([label, guestPort]) => ({
    port: groupPorts[label] ?? guestPort,
    guestPort,
  }));
}

/** Undefined when the record is not one of a NIC in a group's network. */
export function decodeGroupNic({
  vm,
  index,
  record,
}: {
  readonly vm: string;
  readonly index: number;
  readonly record: unknown;
}): GroupNic | undefined {
  const result = v.safeParse(groupRecord, record);
  return result.success ? { vm, index, ...result.output } : undefined;
}
