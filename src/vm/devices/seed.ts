import { constants } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { type SeedRequest, seedProblems } from '#cloudinit';
import { openPath } from '#host';
import { type ImageRoots, readBytes } from '#image';
import type { AttachedNic } from '#net';
import type { UserData, VmSpec, Waiting } from '#spec';
import { inWords, VmError } from '../error.ts';
import type { SharePlan } from '../start/plan.ts';
import type { Descriptors } from './files.ts';
import { seedImage } from './seed-image.ts';
import { guestBytes, sizeProblems } from './seed-size.ts';
import { userDataProblems } from './user-data.ts';

/** cloud-init reads user-data whole; nobody writes more than this by hand. */
const maxUserDataBytes = 1024 * 1024;

/** Most bytes that one becomes: quoted once for JSON, where a control character takes six, and once more for a shell. */
const quoting = 8;

/** Everything in a seed that is not what the user wrote. */
const otherBytes = 256 * 1024;

export interface SeedParts {
  /** No seed of this VM is larger. */
  readonly largestBytes: number;
  /** Makes the seed; what of the job can't be given to a guest as it is comes back, in sentences. */
  write(
    path: string,
    guest: { readonly nics: readonly AttachedNic[]; readonly shares: readonly SharePlan[] },
    fds: Descriptors,
    waiting: Waiting,
  ): Promise<readonly string[]>;
}

/** Reads and checks what the user wants in the guest. Throws VmError 'seed' naming every problem of the user data. */
export async function makeSeed(
  spec: VmSpec,
  roots: ImageRoots,
  waiting: Waiting,
): Promise<SeedParts> {
  const tooLarge = sizeProblems(spec.guest);
  if (tooLarge.length > 0) throw new VmError('seed', tooLarge.join('; '));
  const userData = await readUserData(spec.guest.userData, roots, waiting);
  const request = seedRequest(spec, userData, { nics: [], shares: [] });
  const problems = [
    ...(userData === undefined ? [] : await userDataProblems(userData, waiting)).map(
      (it) => `user_data: ${it}`,
    ),
    ...seedProblems(request),
  ];
  if (problems.length > 0) throw new VmError('seed', problems.join('; '));
  const ownBytes = Object.values(guestBytes(spec.guest)).reduce((total, it) => total + it, 0);
  return {
    largestBytes: Buffer.byteLength(userData ?? '') + ownBytes * quoting + otherBytes,
    write: async (path, guest, fds, writing) => {
      const { iso, notes } = await seedImage(seedRequest(spec, userData, guest), ownBytes, writing);
      // Passwords and tokens are in it: it lies on the VM's tmpfs, for nobody but root and the descriptor QEMU gets.
      await writeFile(path, iso, { mode: 0o600, flag: 'wx' });
      fds.add('seed', openPath(path, constants.O_RDONLY | constants.O_NOFOLLOW));
      return notes;
    },
  };
}

async function readUserData(
  userData: UserData | undefined,
  roots: ImageRoots,
  waiting: Waiting,
): Promise<string | Uint8Array | undefined> {
  if (userData === undefined) return undefined;
  if (userData.kind === 'inline') return userData.text;
  const { path } = userData;
  const read = () => readBytes(path, roots, { maxBytes: maxUserDataBytes }, waiting);
  return inWords('seed', read, 'user_data');
}

function seedRequest(
  { name, guest }: VmSpec,
  userData: string | Uint8Array | undefined,
  {
    nics,
    shares,
  }: { readonly nics: readonly AttachedNic[]; readonly shares: readonly SharePlan[] },
): SeedRequest {
  const { hostname, password, authorizedKey, commands, timezone, env } = guest;
  const { dns = { servers: [], searches: [] } } = guest;
  return {
    instanceId: name,
    hostname,
    commands,
    env,
    ...(userData === undefined ? {} : { userData }),
    ...(password === undefined ? {} : { password }),
    ...(authorizedKey === undefined ? {} : { authorizedKey }),
    ...(timezone === undefined ? {} : { timezone }),
    mounts: shares.map(({ tag, target, type, readOnly }) => ({ tag, target, type, readOnly })),
    // On a bridge that isn't managed the driver knows no address: the guest asks there by DHCP.
    network: nics.map(({ mac, mtu, address }) =>
      address === undefined
        ? { mac, nameservers: dns.servers, searches: dns.searches }
        : {
            mac,
            mtu,
            address: address.ip,
            prefix: address.prefix,
            gateway: address.gateway,
            nameservers: dns.servers.length > 0 ? dns.servers : address.nameservers,
            searches: dns.searches,
          },
    ),
  };
}
