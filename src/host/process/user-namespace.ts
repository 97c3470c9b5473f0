import { constants, writeFileSync } from 'node:fs';
import type { Waiting } from '#spec';
import { HostError } from '../error.ts';
import { openPath } from '../files/descriptor.ts';
import { openNew, unshareProgram } from './new-namespaces.ts';
import { findProgram } from './programs.ts';
import type { SpawnOptions } from './spawn.ts';

/** What the ids 0 to count - 1 inside a user namespace are outside: `firstId` and the ones that follow. */
export interface IdMap {
  readonly firstId: number;
  readonly count: number;
}

/** The programs of util-linux that user namespaces are made and entered with: this process has threads, so it cannot. */
export function userNamespaceTools():
  | { readonly unshare: string; readonly nsenter: string }
  | undefined {
  const [unshare, nsenter] = [unshareProgram(), findProgram('nsenter')];
  return unshare === undefined || nsenter === undefined ? undefined : { unshare, nsenter };
}

/** Creates a user namespace with these users and groups, and returns a descriptor of it. Throws HostError. */
export async function createUserNamespace(
  { firstId, count }: IdMap,
  waiting: Waiting,
): Promise<number> {
  return openNew(
    ['user'],
    (pid) => {
      const map = `0 ${firstId} ${count}`;
      writeFileSync(`/proc/${pid}/uid_map`, map);
      writeFileSync(`/proc/${pid}/gid_map`, map);
      return openPath(`/proc/${pid}/ns/user`, constants.O_RDONLY);
    },
    waiting,
  );
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
