import { attempt, must, type Outcome } from '../native/libc.ts';

/** Of libc only the functions that change all threads have names. */
const numbers =
  process.arch === 'arm64'
    ? { prctl: 167, setgroups: 159, setresgid: 149, setresuid: 147 }
    : { prctl: 157, setgroups: 116, setresgid: 119, setresuid: 117 };
const ambientCapabilities = { option: 47, clearAll: 4 } as const;

/**
 * Runs `run`, which starts one program, with the main thread as this user, in no supplementary group, and returns its
 * result. The program that is started stays this user and has no capabilities: this thread's way back, its saved user id,
 * is replaced when a program is executed. Only what `run` does synchronously is done as the user. A failure to return ends
 * this process, because all later work would be done as another user. Throws HostError.
 */
export function asUser<T>(
  { uid, gid }: { readonly uid: number; readonly gid: number },
  run: () => T,
): T {
  const before = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, groups: groups() };
  // Capabilities of this kind would be kept by a program of another user.
  const { option, clearAll } = ambientCapabilities;
  must('dropping ambient capabilities', 'syscall5', numbers.prctl, option, clearAll, 0, 0, 0);
  try {
    must('leaving all groups', 'syscallGroups', numbers.setgroups, 0, null);
    must(`becoming group ${gid}`, 'syscall4', numbers.setresgid, gid, gid, before.gid, 0);
    must(`becoming user ${uid}`, 'syscall4', numbers.setresuid, uid, uid, before.uid, 0);
    return run();
  } finally {
    const { length } = before.groups;
    orAbort(attempt('syscall4', numbers.setresuid, before.uid, before.uid, before.uid, 0));
    orAbort(attempt('syscall4', numbers.setresgid, before.gid, before.gid, before.gid, 0));
    orAbort(attempt('syscallGroups', numbers.setgroups, length, before.groups));
  }
}

/** Node's own function adds the group that files are made with. */
function groups(): Uint32Array {
  const what = 'reading the groups of this process';
  const all = new Uint32Array(must(what, 'getgroups', 0, null));
  must(what, 'getgroups', all.length, all);
  return all;
}

function orAbort({ errno }: Outcome): void {
  if (errno === undefined) return;
  console.error(`cannot become the user of this process again (${errno}): aborting`);
  process.abort();
}
