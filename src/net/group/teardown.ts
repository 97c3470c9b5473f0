import { listAddresses, NetlinkSocket } from '#netlink';
import type { Waiting } from '#spec';
import { removeTap } from '../links/tap.ts';
import type { NetUndo } from '../model/undo.ts';
import { applyScript } from '../rules/run-nft.ts';
import { endFlowsOf } from '../rules/stale-flows.ts';
import type { GroupHost } from './group-host.ts';
import { formatGroupRemoval } from './group-rules.ts';
import { whileThere } from './namespace.ts';

/** Removes a NIC's tap, rules and connections, as far as its build came. A namespace that is gone has taken them along. */
export async function dropGroupNic(
  step: Extract<NetUndo, { kind: 'net-group' }>,
  { netlink, nft, log }: GroupHost,
  waiting: Waiting,
): Promise<void> {
  const { netns, gateway, guests = [] } = step;
  // A build that was interrupted has left it on the host.
  await removeTap(netlink, step, waiting);
  await whileThere(netns, async () => {
    await using there = await NetlinkSocket.open({ netns });
    await removeTap(there, step, waiting);
    await applyScript(formatGroupRemoval(step), { nft, netns }, waiting);
    // Another VM of the group may have the addresses by now.
    const taken = (await listAddresses(there, waiting)).some(({ address }) => address === gateway);
    if (!taken) await endFlowsOf(guests, { log, netns, ...waiting });
  });
}
