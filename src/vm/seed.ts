import { constants } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { buildSeed, type SeedRequest, seedNotes, seedProblems, writeIso } from '#cloudinit';
import { openPath, type Waiting } from '#host';
import { type ImageRoots, readBytes } from '#image';
import type { AttachedNic } from '#net';
import type { UserData, VmSpec } from '#spec';
import type { Descriptors } from './descriptors.ts';
import { VmError } from './error.ts';
import type { SharePlan } from './plan.ts';
import { userDataProblems } from './user-data.ts';

/** cloud-init reads user-data whole; nobody writes more than this by hand. */
const maxUserDataBytes = 1024 * 1024;

/** Everything in a seed that is not what the user wrote. */
const otherBytes = 256 * 1024;

export interface SeedParts {
  /** No seed of this VM is larger. */
  readonly largestBytes: number;
  /** What of the job can't be given to a guest as it is, in sentences. */
  readonly notes: readonly string[];
  write(
    path: string,
    guest: { readonly nics: readonly AttachedNic[]; readonly shares: readonly SharePlan[] },
    fds: Descriptors,
  ): Promise<void>;
}

/** Reads and checks what the user wants in the guest. Throws VmError 'seed' naming every problem of the user data. */
export async function makeSeed(
  spec: VmSpec,
  roots: ImageRoots,
  waiting: Waiting,
): Promise<SeedParts> {
  const userData = await readUserData(spec.guest.userData, roots, waiting);
  const request = seedRequest(spec, userData, { nics: [], shares: [] });
  const problems = [
    ...(userData === undefined ? [] : await userDataProblems(userData, waiting)).map(
      (it) => `user_data: ${it}`,
    ),
    ...seedProblems(request),
  ];
  if (problems.length > 0) throw new VmError('seed', problems.join('; '));
  // Environment, commands, keys: quoted once for JSON, some once more for a shell, and padded to sectors.
  const guestBytes = Buffer.byteLength(JSON.stringify({ ...spec.guest, userData: undefined })) * 4;
  return {
    largestBytes: Buffer.byteLength(userData ?? '') + guestBytes + otherBytes,
    notes: seedNotes(request),
    write: async (path, guest, fds) => {
      const iso = writeIso(buildSeed(seedRequest(spec, userData, guest)), { label: 'cidata' });
      // Passwords and tokens are in it: it lies on the VM's tmpfs, for nobody but root and the descriptor QEMU gets.
      await writeFile(path, iso, { mode: 0o600, flag: 'wx' });
      fds.add('seed', openPath(path, constants.O_RDONLY | constants.O_NOFOLLOW));
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
  return readBytes(userData.path, roots, { maxBytes: maxUserDataBytes }, waiting);
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
