import type { Logger } from '#host';
import type { ManagedNetwork, NicSpec, Waiting } from '#spec';
import type { AttachedNic, KnownNic, NicRequest } from './nic.ts';
import type { NetUndo, UndoWriter } from './undo.ts';

/** Called with a sentence for the events of a running VM: something of its network was gone and is there again, or does not work. */
export type OnEvent = (vm: string, sentence: string) => void;

/**
 * The host's networking, and the only way the driver reaches it. The first four methods have the names and duties of
 * the Go driver's `Net`; the others serve what that one does not do: adopting running VMs and freeing forgotten claims.
 */
export interface Net extends AsyncDisposable {
  /**
   * The node's network attributes. Called periodically, so it also repairs what `init` repairs. Network errors are
   * logged and never thrown.
   */
  fingerprint(waiting: Waiting): Promise<Readonly<Record<string, string>>>;

  /**
   * Makes ready for use, idempotently: puts back rules and bridges of running VMs that were removed from the host.
   * Without VMs it makes nothing there: that is left to the first VM. Throws NetError that names what could not be put
   * back.
   */
  init(waiting: Waiting): Promise<void>;

  /** Why this agent lets no VM have such a NIC, known before anything of it is made; undefined where it may be. */
  problemOf(nic: NicSpec): string | undefined;

  /**
   * Builds a VM's NIC. The Go driver does this once the VM runs; here it is called before QEMU is spawned, because QEMU
   * inherits the tap. Returns as soon as that exists; the rest is done while QEMU initialises, in two steps: the address
   * by `claim`, everything else by its `settle`. After an error of any of them, or when the VM does not come to the last
   * one, the steps written to `undo` are torn down.
   */
  vmStartedBuild(request: NicRequest, undo: UndoWriter, waiting: Waiting): Promise<AttachedNic>;

  /** Takes back one step of a build. Idempotent, can be retried after an error, and needs nothing but what is on disk. */
  vmTerminatedTeardown(step: NetUndo, waiting: Waiting): Promise<void>;

  /** Takes over a NIC on a bridge of a running VM after a restart of the plugin: repairs its host side and answers its DHCP. */
  adopt(nic: KnownNic, waiting: Waiting): Promise<void>;

  /** Names of the VMs that have an address. */
  claimants(): Promise<readonly string[]>;

  /** Gives up every address of a VM. */
  release(vm: string, waiting: Waiting): Promise<void>;
}

export interface NetworksOptions {
  /** Directory of networks and claims; all processes with the same directory work on the same networks. */
  readonly stateDir: string;
  readonly managed: readonly ManagedNetwork[];
  /** Bridges that the driver does not manage and that VMs may be plugged into. */
  readonly bridges: readonly string[];
  /** Devices that VMs may have a macvtap on. */
  readonly macvtapDevices?: readonly string[];
  /** How many tracked connections a VM may have in each direction. */
  readonly maxConnections: number;
  /** Path of the nft program. */
  readonly nft: string;
  readonly log: Logger;
  readonly onEvent?: OnEvent;
}
