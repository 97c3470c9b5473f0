import { NetlinkSocket } from '#netlink';
import type { Waiting } from '#spec';
import { removeTap } from '../links/tap.ts';
import type { NetUndo } from '../model/undo.ts';
import { applyScript } from '../rules/run-nft.ts';
import type { GroupHost } from './group-host.ts';
import { formatGroupRemoval } from './group-rules.ts';
import { whileThere } from './namespace.ts';

/** Removes a NIC's tap and rules, as far as its build came. A namespace that is gone has taken them along. */
export async function dropGroupNic(
  step: Extract<NetUndo, { kind: 'net-group' }>,
  { netlink, nft }: GroupHost,
  waiting: Waiting,
): Promise<void> {
  const { netns } = step;
  // A build that was interrupted has left it on the host.
  await removeTap(netlink, step, waiting);
  await whileThere(netns, async () => {
    await using there = await NetlinkSocket.open({ netns });
    await removeTap(there, step, waiting);
    await applyScript(formatGroupRemoval(step), { nft, netns }, waiting);
  });
}
