import { NetError } from '../model/error.ts';
import { nicMac, tapName } from '../model/names.ts';
import type { BridgeRequest } from '../model/nic.ts';

/** The names of a NIC on the host. */
export interface TapPlan {
  readonly tap: string;
  readonly mac: string;
  readonly bridge: string;
  readonly managed: boolean;
}

/** Chooses the names of a NIC; `taken` are the names of all links. */
export function planTap(
  request: BridgeRequest,
  managed: boolean,
  taken: ReadonlySet<string>,
): TapPlan {
  const { vm, index, bridge } = request;
  for (let attempt = 0; attempt < 16; attempt++) {
    const tap = tapName(vm, index, attempt);
    if (!taken.has(tap)) return { tap, mac: nicMac(vm, index), bridge, managed };
  }
  throw new NetError('host', `VM ${vm}: every name for the tap of NIC ${index} is taken`);
}
