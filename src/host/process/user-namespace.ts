import { closeSync, openSync, readlinkSync, writeFileSync } from 'node:fs';
import type { Waiting } from '#spec';
import { HostError, hostError } from '../error.ts';
import { closeFd } from '../files/descriptor.ts';
import { pipeTo } from '../files/pipe.ts';
import { pause } from '../waiting.ts';
import { kill } from './process.ts';
import { findProgram } from './programs.ts';
import { type SpawnedProcess, type SpawnOptions, spawnDetached } from './spawn.ts';

/** What the ids 0 to count - 1 inside a user namespace are outside: `firstId` and the ones that follow. */
export interface IdMap {
  readonly firstId: number;
  readonly count: number;
}

/** The programs of util-linux that user namespaces are made and entered with: this process has threads, so it cannot. */
export function userNamespaceTools():
  | { readonly unshare: string; readonly nsenter: string }
  | undefined {
  const [unshare, nsenter] = [findProgram('unshare'), findProgram('nsenter')];
  return unshare === undefined || nsenter === undefined ? undefined : { unshare, nsenter };
}

/** Creates a user namespace with these users and groups, and returns a descriptor of it. Throws HostError. */
export async function createUserNamespace(
  { firstId, count }: IdMap,
  waiting: Waiting,
): Promise<number> {
  // What holds the namespace until it is open ends with this process as well: it reads a pipe whose other end is here.
  using ends = new DisposableStack();
  const { read, write } = pipeTo('write');
  ends.adopt(write, closeFd);
  const { identity } = await startHolder(read);
  const { pid } = identity;
  let opened: number | undefined;
  try {
    const own = readlinkSync('/proc/self/ns/user');
    while (readlinkSync(`/proc/${pid}/ns/user`) === own) await pause(1, waiting);
    const map = `0 ${firstId} ${count}`;
    writeFileSync(`/proc/${pid}/uid_map`, map);
    writeFileSync(`/proc/${pid}/gid_map`, map);
    opened = openSync(`/proc/${pid}/ns/user`, 'r');
  } catch (error) {
    throw hostError('creating a user namespace', error);
  } finally {
    await kill(identity, waiting).catch((error: unknown) => {
      if (opened !== undefined) closeSync(opened);
      throw error;
    });
  }
  return opened;
}

async function startHolder(stdin: number): Promise<SpawnedProcess> {
  try {
    return await spawnDetached({
      program: tools().unshare,
      args: ['--user', 'cat'],
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin' },
      stdio: [stdin, 'ignore', 'ignore'],
    });
  } finally {
    closeFd(stdin);
  }
}

/** How a program is started as the namespace's user 0, with every capability there and none outside. `fd`: its number in the program's list of descriptors. */
export function inUserNamespace(
  { program, args }: Pick<SpawnOptions, 'program' | 'args'>,
  fd: number,
): Pick<SpawnOptions, 'program' | 'args'> {
  const enter = [`--user=/proc/self/fd/${fd}`, '--setuid=0', '--setgid=0', '--'];
  return { program: tools().nsenter, args: [...enter, program, ...args] };
}

function tools(): NonNullable<ReturnType<typeof userNamespaceTools>> {
  const found = userNamespaceTools();
  if (found === undefined)
    throw new HostError('there is no unshare or no nsenter; install util-linux');
  return found;
}
