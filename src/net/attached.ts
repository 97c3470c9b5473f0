/** A NIC that is plugged in. */
export interface AttachedNic {
  /** For QEMU to inherit; the caller closes its own copy after the spawn. */
  readonly tapFd: number;
  readonly tap: string;
  readonly mac: string;
  readonly bridge: string;
  readonly mtu: number;
  /** What the guest is to use; undefined on a bridge that isn't managed. */
  readonly address?: {
    readonly ip: string;
    readonly prefix: number;
    readonly gateway: string;
    readonly nameservers: readonly string[];
  };
  /** What people should know of it, in whole sentences: firewalls in the way, … */
  readonly notes: readonly string[];
}

/** What must be known of a NIC to take it over from an earlier process. */
export interface AdoptRecord {
  readonly vm: string;
  readonly index: number;
  readonly bridge: string;
  readonly tap: string;
}
