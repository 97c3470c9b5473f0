import { NetError } from '../model/error.ts';
import { nicMac, tapName } from '../model/names.ts';
import type { NicRequest } from '../model/nic.ts';

/** What a NIC will be called on the host. */
export interface TapPlan {
  readonly tap: string;
  readonly mac: string;
  readonly bridge: string;
  readonly managed: boolean;
}

/** The names of a NIC; `taken` are the links that exist. */
export function planTap(
  request: NicRequest,
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
