import { constants, stat } from 'node:fs';
import { closeFd, openPath, pathOnly } from '../files/descriptor.ts';
import { attempt } from '../native/libc.ts';

/** Each kind's flag for unshare and setns. */
export const cloneNew = {
  ipc: 0x08000000,
  mnt: 0x00020000,
  net: 0x40000000,
  pid: 0x20000000,
} as const;

export type NamespaceKind = keyof typeof cloneNew;

let poolStarted = false;

/**
 * Runs `run` with the main thread in the namespaces that `leave` enters, and returns its result; `kinds` are those that
 * change. They change by the last call of `leave`, all or none: a `leave` that throws has left nothing. Only what `run`
 * does synchronously happens there: system calls of this thread, and programs that it spawns, which stay there. libuv's
 * pool threads (asynchronous file and DNS calls) are not moved; a promise may not be returned. A failure to return ends
 * this process, because all later work would be done in the wrong namespaces. Throws HostError.
 */
export function elsewhere<T>(kinds: readonly NamespaceKind[], leave: () => void, run: () => T): T {
  startPool();
  using home = new Home(kinds);
  // Not inside the try: what refuses to let this thread go may also refuse its return, and there is none to make.
  leave();
  try {
    const result = run();
    if (result instanceof Promise) throw new Error('in a namespace, run must be synchronous');
    return result;
  } finally {
    home.return();
  }
}

/** The namespaces of the main thread when this is made, for that of mounts with its root and working directory. */
class Home implements Disposable {
  readonly #namespaces: { readonly kind: NamespaceKind; readonly fd: number }[] = [];
  readonly #directories: number[] = [];

  constructor(kinds: readonly NamespaceKind[]) {
    try {
      for (const kind of kinds) {
        const fd = openPath(`/proc/thread-self/ns/${kind}`, constants.O_RDONLY);
        this.#namespaces.push({ kind, fd });
      }
      if (!kinds.includes('mnt')) return;
      for (const path of ['/', '.'])
        this.#directories.push(openPath(path, pathOnly | constants.O_DIRECTORY));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  return(): void {
    // Not 0 for any kind: systemd's RestrictNamespaces= refuses it even where it permits the kind.
    for (const { kind, fd } of this.#namespaces) orAbort(attempt('setns', fd, cloneNew[kind]));
    // Entering a namespace of mounts sets both directories to its root, from which they may have differed.
    const [root, working] = this.#directories;
    if (root === undefined || working === undefined) return;
    orAbort(attempt('fchdir', root));
    orAbort(attempt('chroot', '.'));
    orAbort(attempt('fchdir', working));
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.#namespaces.splice(0)) closeFd(fd);
    for (const fd of this.#directories.splice(0)) closeFd(fd);
  }
}

function orAbort({ errno }: { readonly errno: string | undefined }): void {
  if (errno === undefined) return;
  console.error(`cannot return from a namespace (${errno}): aborting`);
  process.abort();
}

/** Threads inherit the namespace of the thread that makes them, and libuv makes its pool on first use: make it now. */
function startPool(): void {
  if (poolStarted) return;
  poolStarted = true;
  stat('/', () => undefined);
}
