import { findLink, listLinks } from '#netlink';
import type { Waiting } from '#spec';
import { inTurn } from '../model/in-turn.ts';
import { addressesInAlias } from '../model/names.ts';
import type { NicRecord } from '../model/nic.ts';
import { readClaim, readNetwork } from '../store/claim.ts';
import { recordFile } from '../store/store.ts';
import { forgetGuests, type ManagedHost } from './managed-host.ts';
import { renewRules } from './repair.ts';
import { dropUnused } from './teardown.ts';

/** A NIC of a running VM, as the VM's record has it. */
export interface RecordedNic {
  readonly vm: string;
  readonly record: NicRecord;
}

/**
 * Makes the files of a managed network again that a NIC of a running VM needs and that something on the host has removed or
 * damaged: without them its rules go with the next change. Reports what can't be made again.
 */
export async function restoreFiles(
  nic: RecordedNic,
  host: ManagedHost,
  { isKnown = () => true, signal }: Waiting & { readonly isKnown?: () => boolean },
): Promise<void> {
  const { store, netlink } = host;
  const waiting = { signal };
  const { bridge, tap } = nic.record;
  if ((await lostOf(nic, host)).length === 0) return;
  await using _ = await store.lock(waiting);
  // The claim of a VM that ends goes under the lock, after its tap.
  if (!isKnown() || (await findLink(netlink, tap, waiting)) === undefined) return;
  const lost = await lostOf(nic, host);
  for (const file of lost) await restoreFile(nic, file, host);
  if (lost.length === 0) return;
  forgetGuests(host, bridge);
  await renewRules(host, waiting);
}

/** Names of the files: those of a NIC without a copy of them may be of no managed network. */
async function lostOf(
  { record: { bridge, ip, kept } }: RecordedNic,
  { store }: Pick<ManagedHost, 'store'>,
): Promise<readonly string[]> {
  if (ip === undefined) return [];
  if (kept === undefined) {
    return (await store.damaged(bridge)).filter((name) => name === ip || name === recordFile);
  }
  return [
    ...((await store.record(bridge)) === undefined ? [recordFile] : []),
    ...((await store.claim(bridge, ip)) === undefined ? [ip] : []),
  ];
}

async function restoreFile(
  { vm, record: { bridge, ip = '', kept } }: RecordedNic,
  name: string,
  { store, warnOnce, log, onEvent }: ManagedHost,
): Promise<void> {
  const file = store.path(bridge, name);
  const network = name === recordFile ? readNetwork(kept?.network) : undefined;
  const claim = name === recordFile ? undefined : readClaim(ip, kept?.claim);
  if (network === undefined && claim === undefined) {
    const consequence = 'its ports and filters end with the next change of rules';
    if (warnOnce.warn('file of a network is damaged: restart the task', { file, vm, consequence }))
      onEvent(vm, `File ${file} is damaged, ${consequence}: restart the task`);
    return;
  }
  if (network !== undefined) await store.keepRecord(network);
  if (claim !== undefined) await store.keepClaim(bridge, claim);
  log.warn('file of a network was damaged or gone and was made again', { file, vm });
  onEvent(vm, `File ${file} was damaged or gone and was put back`);
}

/** The same for all NICs; damaged files that are no NIC's, as a power cut leaves them empty, are removed. */
export async function restoreAllFiles(
  known: () => readonly RecordedNic[],
  host: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  const files = await host.store.files();
  const whole = new Set(
    files.flatMap(({ bridge, record, claims }) =>
      record === undefined ? [] : claims.map(({ ip }) => host.store.path(bridge, ip)),
    ),
  );
  const lacking = known().filter(
    ({ record: { bridge, ip } }) => ip !== undefined && !whole.has(host.store.path(bridge, ip)),
  );
  const nics = lacking.map((nic) => () => {
    const isKnown = (): boolean => known().includes(nic);
    return restoreFiles(nic, host, { ...waiting, isKnown });
  });
  const damaged = files.filter((network) => network.damaged.length > 0);
  const bridges = damaged.map(
    ({ bridge }) =>
      () =>
        dropDamaged(bridge, host, waiting),
  );
  await inTurn([...nics, ...bridges]);
}

async function dropDamaged(bridge: string, host: ManagedHost, waiting: Waiting): Promise<void> {
  if (await dropUnclaimed(bridge, host, waiting)) await dropUnused(bridge, host, waiting);
}

/** Whether there were some of addresses that no VM has. */
async function dropUnclaimed(
  bridge: string,
  { store, netlink, log }: ManagedHost,
  waiting: Waiting,
): Promise<boolean> {
  await using _ = await store.lock(waiting);
  const links = await listLinks(netlink, waiting);
  const used = new Set(links.flatMap(({ alias }) => addressesInAlias(alias)));
  const claims = (await store.damaged(bridge)).filter((ip) => ip !== recordFile && !used.has(ip));
  for (const ip of claims) {
    await store.dropClaim(bridge, ip);
    const file = store.path(bridge, ip);
    log.warn('damaged file of a network was removed: no VM has the address', { file });
  }
  const isLost = (await store.record(bridge)) === undefined && !(await store.isClaimed(bridge));
  if (isLost) await store.dropNetwork(bridge);
  return claims.length > 0;
}
