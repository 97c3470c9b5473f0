import { constants, ftruncateSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import {
  ignitionText,
  type SeedMount,
  type SeedNic,
  type SeedRequest,
  type SeedText,
  seedProblems,
} from '#cloudinit';
import { closeFd, openPath } from '#host';
import { type ImageRoots, readBytes } from '#image';
import { readOnlyDisk } from '#qemu';
import {
  type TextSource,
  type UserData,
  unpackBase64,
  type VmSpec,
  type Waiting,
  wholeSectors,
} from '#spec';
import { combineErrors, VmError, withVmError } from '../error.ts';
import { type Facts, factsOf, type Prepared, type Site } from './device.ts';
import { seedImage } from './seed-image.ts';
import { guestBytes, sizeProblems } from './seed-size.ts';
import { textProblems } from './user-data.ts';

/** cloud-init reads user data as a whole; hand-written user data is smaller. */
const maxUserDataBytes = 1024 * 1024;

/**
 * Maximum of bytes that one byte becomes when quoted: once for JSON, where a control character takes six, and again
 * for a shell.
 */
const maxQuotedBytes = 8;

/** Everything in a seed that does not come from the job. */
const otherBytes = 256 * 1024;

/** What a guest is given in its seed beside what its devices need: read and valid. */
export interface CheckedSeed {
  readonly request: SeedRequest;
  /** User data that is a configuration of Ignition, which is given to the guest by fw_cfg as well. */
  readonly ignition: string | undefined;
  /** Bytes that the job puts into it beside user data. */
  readonly guestBytes: number;
  /** Maximum size of this VM's seed, and of the file for fw_cfg. */
  readonly maxBytes: number;
}

/** Reads and checks what the job puts into the guest. Throws a VmError naming every problem with its key. */
export async function checkSeed(
  { name, guest }: Pick<VmSpec, 'name' | 'guest'>,
  allowed: ImageRoots,
  waiting: Waiting,
): Promise<CheckedSeed> {
  const tooLarge = sizeProblems(guest);
  if (tooLarge.length > 0) throw new VmError('job', tooLarge.join('; '));
  const userData = await readUserData(guest.userData, allowed, waiting);
  const networkConfig = await readNetworkConfig(guest.networkConfig, allowed, waiting);
  const { hostname, metaData, password, authorizedKey, commands, commandsOn, timezone, env } =
    guest;
  const request: SeedRequest = {
    instanceId: name,
    hostname,
    metaData,
    timezone,
    password,
    authorizedKey,
    commands,
    commandsOn,
    env,
    userData,
    networkConfig,
    mounts: [],
  };
  const problems = await problemsOf(request, guest.userData?.check !== false, waiting);
  if (problems.length > 0) {
    throw combineErrors(problems.map((problem) => new VmError('job', problem)));
  }
  const ownBytes = Object.values(guestBytes(guest)).reduce((total, size) => total + size, 0);
  const userDataBytes = Buffer.byteLength(userData ?? '');
  const ignition = userData === undefined ? undefined : ignitionText(userData);
  return {
    request,
    ignition,
    guestBytes: ownBytes,
    maxBytes:
      userDataBytes +
      Buffer.byteLength(ignition ?? '') +
      Buffer.byteLength(networkConfig ?? '') +
      ownBytes * maxQuotedBytes +
      otherBytes,
  };
}

/** All, each with its key. */
async function problemsOf(
  request: SeedRequest,
  checksUserData: boolean,
  waiting: Waiting,
): Promise<readonly string[]> {
  const { userData, networkConfig } = request;
  const texts: SeedText[] = [];
  if (userData !== undefined && checksUserData) texts.push({ key: 'user_data', data: userData });
  if (networkConfig !== undefined) texts.push({ key: 'network_config', data: networkConfig });
  const inTexts: string[] = [];
  for (const text of texts) inTexts.push(...(await textProblems(text, waiting)));
  return [...inTexts, ...seedProblems(request).map(({ field, text }) => `${field}: ${text}`)];
}

async function readUserData(
  userData: UserData | undefined,
  allowed: ImageRoots,
  waiting: Waiting,
): Promise<string | Uint8Array | undefined> {
  if (userData === undefined) return undefined;
  if (userData.kind === 'inline') return unpackBase64(userData.text) ?? userData.text;
  const { path } = userData;
  const limit = { maxBytes: maxUserDataBytes };
  const key = keyOfFile('user_data', path, '#');
  const bytes = await withVmError(() => readBytes(path, allowed, limit, waiting), key);
  return unpackBase64(Buffer.from(bytes).toString('latin1')) ?? bytes;
}

/** What looks like one line of YAML was meant as the text itself. */
function keyOfFile(key: string, path: string, begin: string): string {
  if (!/:\s/.test(path)) return key;
  return `${key} (one line that does not begin with "${begin}" is the path of a file)`;
}

/** A network configuration for many interfaces has a few KiB. */
const maxNetworkConfigBytes = 64 * 1024;

async function readNetworkConfig(
  source: TextSource | undefined,
  allowed: ImageRoots,
  waiting: Waiting,
): Promise<string | undefined> {
  if (source === undefined) return undefined;
  const key = 'network_config';
  const bytes =
    source.kind === 'inline'
      ? Buffer.from(source.text)
      : await withVmError(
          () => readBytes(source.path, allowed, { maxBytes: maxNetworkConfigBytes }, waiting),
          keyOfFile(key, source.path, '{'),
        );
  if (bytes.length <= maxNetworkConfigBytes) return Buffer.from(bytes).toString('utf8');
  const problem = `${bytes.length} bytes, the maximum is ${maxNetworkConfigBytes}`;
  throw new VmError('job', `${key}: ${problem}`);
}

/** The disk of the seed: what the job puts into the guest, and what the other devices need there. */
export async function prepareSeed(
  seed: CheckedSeed,
  devices: readonly Prepared[],
  { paths, files, emit }: Pick<Site, 'paths' | 'files' | 'emit'>,
  waiting: Waiting,
): Promise<Prepared> {
  // QEMU reads the length when it starts. What the file is not filled with takes no memory.
  const bytes = wholeSectors(seed.maxBytes);
  // It contains passwords and tokens: it is on the VM's tmpfs, accessible to root and by the descriptor that QEMU gets.
  const made = openPath(
    paths.seed,
    constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL,
    0o600,
  );
  try {
    ftruncateSync(made, bytes);
  } finally {
    closeFd(made);
  }
  files.add('seed', openPath(paths.seed, constants.O_RDONLY | constants.O_NOFOLLOW));
  return {
    part: readOnlyDisk({ id: 'seed', device: 'seed0', serial: 'cidata' }),
    record: { kind: 'seed', id: 'seed' },
    finish: async () => {
      const request = requestOf(seed, await factsOf(devices));
      const { iso, notes } = await seedImage(request, seed.guestBytes, waiting);
      if (iso.length > bytes) throw new Error(`a seed of ${iso.length} bytes for ${bytes}`);
      for (const note of notes) emit(note);
      await writeFile(paths.seed, iso, { flag: 'r+' });
      return [];
    },
  };
}

function requestOf({ request }: CheckedSeed, devices: readonly Facts[]): SeedRequest {
  const mounts: readonly SeedMount[] = devices.flatMap(({ guest }) => guest?.mounts ?? []);
  const network: readonly SeedNic[] = devices.flatMap(({ guest }) => guest?.nics ?? []);
  const env = Object.assign({}, request.env, ...devices.map(({ guest }) => guest?.env));
  const ssh = devices.find(({ guest }) => guest?.ssh !== undefined)?.guest?.ssh;
  return { ...request, env, mounts, network, ssh };
}
