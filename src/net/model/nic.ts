import * as v from 'valibot';
import type {
  Bandwidth,
  BridgeNic,
  GroupNic,
  GuestDns,
  MacvtapNic,
  NicSpec,
  PortSpec,
  UserNic,
  Waiting,
} from '#spec';
import type { GroupNicRecord } from './group.ts';

/** Whose NIC it is, and what DHCP gives the guest there. */
interface NicOwner {
  readonly vm: string;
  /** Counts a VM's NICs from 0. */
  readonly index: number;
  readonly hostname: string;
  /** What DHCP gives this VM in place of the network's name servers. */
  readonly dns?: GuestDns | undefined;
  /** Whether the guest's default route goes through this NIC; it does where this is left out. */
  readonly isDefaultRoute?: boolean;
}

/** A NIC that a VM asks for. */
export type NicRequest = NicSpec & NicOwner;
export type BridgeRequest = BridgeNic & NicOwner;
export type UserRequest = UserNic & NicOwner;
export type MacvtapRequest = MacvtapNic & NicOwner;
export type GroupRequest = GroupNic & NicOwner;

/** What the guest is configured with. */
export interface NicAddress {
  /** Of IPv6 where the job gives no other. */
  readonly ip: string;
  readonly prefix: number;
  readonly gateway?: string;
  /** Of this host, from which it reaches the guest; left out where that is not known. */
  readonly host?: string;
  readonly nameservers: readonly string[];
  /** Domains in which names without dots are looked for. */
  readonly searches: readonly string[];
  /** In a network with IPv6, or of the job's. */
  readonly six?: NicAddress6;
}

/** An IPv6 address of a guest. */
export interface NicAddress6 {
  readonly ip: string;
  readonly prefix: number;
  /** Left out: the one that announces itself. */
  readonly gateway?: string;
}

/** A tap or macvtap: QEMU inherits a descriptor for each queue; the caller closes its own copies after the spawn. */
export interface TapBackend {
  readonly kind: 'tap';
  readonly fds: readonly number[];
  readonly name: string;
}

/** QEMU's user-mode network, which forwards these ports to the guest's address. */
export interface UserBackend {
  readonly kind: 'user';
  readonly ports: readonly PortSpec[];
}

/** A NIC whose host side exists as far as QEMU needs it. */
export interface AttachedNic {
  readonly mac: string;
  readonly mtu: number;
  readonly backend: TapBackend | UserBackend;
  /** Claims the guest's address, which QEMU does not need; to be called once. Finds conflicts over addresses and ports. */
  readonly claim: (waiting: Waiting) => Promise<ClaimedNic>;
}

/** A NIC whose guest can be configured. */
export interface ClaimedNic {
  /** Undefined where the guest has to ask for its address, as on a bridge that is not managed. */
  readonly address?: NicAddress;
  /** What `adopt` needs after a restart of the plugin; kept in the VM's record. */
  readonly record: (
    | ({ readonly kind: 'nic' } & NicRecord)
    | UserNicRecord
    | MacvtapNicRecord
    | GroupNicRecord
  ) & { readonly bandwidth?: Bandwidth };
  /**
   * To be called once, and the guest must not run before: rules, port mappings and DHCP are put in place, then the tap
   * into its bridge. Gives notes for the operator in whole sentences, such as firewalls that drop its packets.
   */
  readonly settle: (waiting: Waiting) => Promise<readonly string[]>;
}

const nicRecord = v.object({
  tap: v.string(),
  mac: v.string(),
  bridge: v.string(),
  /** In a managed network. */
  ip: v.exactOptional(v.string()),
  /** The bridge's MTU at its start. */
  tapMtu: v.exactOptional(v.number()),
  /** Port label → port of the guest. */
  portMap: v.record(v.string(), v.number()),
  /** Copies of the files of its managed network, as they were at its start. */
  kept: v.exactOptional(v.object({ claim: v.unknown(), network: v.unknown() })),
});

/** A NIC on a bridge as JSON. Running VMs have records of earlier versions: fields may be added, none may change. */
export type NicRecord = v.InferOutput<typeof nicRecord>;

/** Undefined when it is not a record of a NIC. */
export function decodeNicRecord(json: unknown): NicRecord | undefined {
  const result = v.safeParse(nicRecord, json);
  return result.success ? result.output : undefined;
}

export function makeNicRecord(
  { bridge, ports }: Pick<BridgeRequest, 'bridge' | 'ports'>,
  nic: Pick<NicRecord, 'tap' | 'mac' | 'ip' | 'tapMtu'>,
): NicRecord {
  const { tap, mac, ip, tapMtu } = nic;
  const more = { ...(ip !== undefined && { ip }), ...(tapMtu !== undefined && { tapMtu }) };
  return { tap, mac, bridge, ...more, portMap: portMapOf(ports) };
}

/** A NIC of the user-mode network: it has nothing on the host that has to be adopted. */
export interface UserNicRecord {
  readonly kind: 'user-nic';
  readonly mac: string;
  readonly portMap: Readonly<Record<string, number>>;
}

const macvtapNicRecord = v.object({
  kind: v.literal('macvtap-nic'),
  link: v.string(),
  mac: v.string(),
  device: v.string(),
  mode: v.string(),
  /** Of the job's. */
  ip: v.exactOptional(v.string()),
});

/** A NIC on a macvtap as JSON. */
export type MacvtapNicRecord = v.InferOutput<typeof macvtapNicRecord>;

/** Undefined when it is not a record of one. */
export function decodeMacvtapNicRecord(json: unknown): MacvtapNicRecord | undefined {
  const result = v.safeParse(macvtapNicRecord, json);
  return result.success ? result.output : undefined;
}

export function portMapOf(ports: readonly PortSpec[]): Readonly<Record<string, number>> {
  return Object.fromEntries(ports.map(({ label, guestPort }) => [label, guestPort]));
}

/** A NIC of a running VM, to be taken over from an earlier process. */
export interface KnownNic {
  readonly vm: string;
  readonly index: number;
  /** What `AttachedNic.record` was, as read back. */
  readonly record: unknown;
}

/** How a message about a NIC that could not be built begins. */
export function failureOf(request: NicRequest): string {
  return `VM ${request.vm}: attaching to ${networkName(request)} failed`;
}

function networkName(request: NicRequest): string {
  switch (request.kind) {
    case 'bridge':
      return `bridge ${request.bridge}`;
    case 'macvtap':
      return `device ${request.device}`;
    case 'user':
      return 'the user-mode network';
    case 'group':
      return `the network of its group (${request.netns})`;
    default:
      return request satisfies never;
  }
}
