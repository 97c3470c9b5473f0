import type { Waiting } from '#spec';
import type { Limits } from '../bandwidth/limits.ts';
import type { KnownLinks } from '../links/known-links.ts';
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
    links,
    notes,
    undo,
  }: {
    readonly limits: Limits;
    readonly links: KnownLinks;
    readonly notes: (waiting: Waiting) => Promise<readonly string[]>;
    readonly undo: UndoWriter;
  },
): ClaimedNic {
  const { vm, index, bandwidth } = request;
  const record = { ...own, ...(bandwidth !== undefined && { bandwidth }) };
  const settle = async (waiting: Waiting): Promise<readonly string[]> => {
    await asNetError(failureOf(request), async () => {
      await limits.build({ vm, record }, undo, waiting);
      await plug?.(waiting);
    });
    links.keep({ vm, index, record });
    return notes(waiting);
  };
  return { ...(address !== undefined && { address }), record, settle };
}
