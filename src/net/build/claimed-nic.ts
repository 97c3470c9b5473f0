import type { Waiting } from '#spec';
import type { Limits } from '../bandwidth/limits.ts';
import type { KnownMacvtaps } from '../links/known-macvtaps.ts';
import type { AddressedNic } from '../links/tap.ts';
import { asNetError } from '../model/error.ts';
import { type ClaimedNic, failureOf, type NicRequest } from '../model/nic.ts';
import type { UndoWriter } from '../model/undo.ts';

/** A NIC of any kind whose address is known, with what is left to do: its bounds, then what its kind needs. */
export function claimedNic(
  request: NicRequest,
  { address, record: own, plug }: AddressedNic,
  {
    limits,
    macvtaps,
    notes,
    undo,
  }: {
    readonly limits: Limits;
    readonly macvtaps: KnownMacvtaps;
    /** Given whether the guest has IPv6. */
    readonly notes: (hasIpv6: boolean, waiting: Waiting) => Promise<readonly string[]>;
    readonly undo: UndoWriter;
  },
): ClaimedNic {
  const { vm, bandwidth } = request;
  const record = { ...own, ...(bandwidth !== undefined && { bandwidth }) };
  macvtaps.keep({ vm, record });
  const settle = async (waiting: Waiting): Promise<readonly string[]> => {
    await asNetError(failureOf(request), async () => {
      await limits.build({ vm, record }, undo, waiting);
      await plug?.(waiting);
    });
    return notes(address?.six !== undefined, waiting);
  };
  return { ...(address !== undefined && { address }), record, settle };
}
