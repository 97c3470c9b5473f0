import type { Waiting } from '#spec';
import type { VmHost } from '../vm-host.ts';
import { isGone } from './remove.ts';
import { releaseUid, uidClaims } from './uid.ts';

/**
 * Names of VMs that have a user id or an address here and no directory: a power cut may take the last lines of an undo
 * log, and leave what they named. A start makes the directory first, so none is on its way.
 */
export async function forgottenVms(host: VmHost): Promise<readonly string[]> {
  const uids = await uidClaims(`${host.dataDir}/uids`);
  const names = new Set([...uids.map(({ name }) => name), ...(await host.networks.claimants())]);
  const gone = await Promise.all([...names].map((name) => isGone(`${host.dataDir}/vms/${name}`)));
  return [...names].filter((_, index) => gone[index]);
}

/** Gives up the claims of a VM that still has no directory. Throws while a process runs as its user. */
export async function freeClaims(name: string, host: VmHost, waiting: Waiting): Promise<void> {
  if (!(await isGone(`${host.dataDir}/vms/${name}`))) return;
  for (const claim of await uidClaims(`${host.dataDir}/uids`)) {
    if (claim.name === name) await releaseUid(claim.file, name, waiting);
  }
  await host.networks.release(name, waiting);
  host.log.warn('freed what a VM that is gone had claimed', { vm: name });
}
