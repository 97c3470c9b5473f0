import type { Logger } from '#host';
import type { NetlinkSocket } from '#netlink';
import type { OnEvent } from '../model/net.ts';

/** What work in the namespaces of allocations needs of the host. */
export interface GroupHost {
  /** Of the host's own namespace. */
  readonly netlink: NetlinkSocket;
  /** Path of the nft program. */
  readonly nft: string;
  /** How many tracked connections a VM may have in each direction. */
  readonly maxConnections: number;
  readonly log: Logger;
  readonly onEvent: OnEvent;
}
