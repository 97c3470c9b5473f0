import type { Waiting } from '#spec';
import type { VmHost } from '../vm-host.ts';
import { isGone } from './remove.ts';
import { releaseUid, uidClaims } from './uid.ts';

/**
 * Names of VMs that have a user id, an address or an image here and no directory: after a power cut the last lines of an undo
 * log may be missing while the resources that they named still exist. A start creates the directory first, so a VM
 * without one is not being started.
 */
export async function forgottenVms(host: VmHost): Promise<readonly string[]> {
  const uids = await uidClaims(`${host.dataDir}/uids`);
  const claimants = [...(await host.networks.claimants()), ...(await host.images.users())];
  const names = new Set([...uids.map(({ name }) => name), ...claimants]);
  const gone = await Promise.all([...names].map((name) => isGone(`${host.dataDir}/vms/${name}`)));
  return [...names].filter((_, index) => gone[index]);
}

/** Releases the claims of a VM that still has no directory. Throws while a process runs as its user. */
export async function releaseClaims(name: string, host: VmHost, waiting: Waiting): Promise<void> {
  if (!(await isGone(`${host.dataDir}/vms/${name}`))) return;
  for (const claim of await uidClaims(`${host.dataDir}/uids`)) {
    if (claim.name === name) await releaseUid(claim.file, name, waiting);
  }
  await host.networks.release(name, waiting);
  await host.images.release(name);
  host.log.warn('released the claims of a VM that no longer exists', { vm: name });
}
