import { constants, stat } from 'node:fs';
import { closeFd, openPath, pathOnly } from '../files/descriptor.ts';
import { attempt } from '../native/libc.ts';

export type NamespaceKind = 'ipc' | 'mnt' | 'net' | 'pid';

let poolStarted = false;

/**
 * Runs `run` with the main thread in the namespaces that `leave` enters, and returns its result; `kinds` are those that
 * change. Only what `run` does synchronously happens there: system calls of this thread, and programs that it spawns,
 * which stay there. libuv's pool threads (asynchronous file and DNS calls) are not moved; a promise may not be returned.
 * A failure to return ends this process, because all later work would be done in the wrong namespaces. Throws HostError.
 */
export function elsewhere<T>(kinds: readonly NamespaceKind[], leave: () => void, run: () => T): T {
  startPool();
  using home = new Home(kinds);
  try {
    leave();
    const result = run();
    if (result instanceof Promise) throw new Error('in a namespace, run must be synchronous');
    return result;
  } finally {
    home.return();
  }
}

/** The namespaces of the main thread when this is made, for that of mounts with its root and working directory. */
class Home implements Disposable {
  readonly #namespaces: number[] = [];
  readonly #directories: number[] = [];

  constructor(kinds: readonly NamespaceKind[]) {
    try {
      for (const kind of kinds)
        this.#namespaces.push(openPath(`/proc/thread-self/ns/${kind}`, constants.O_RDONLY));
      if (!kinds.includes('mnt')) return;
      for (const path of ['/', '.'])
        this.#directories.push(openPath(path, pathOnly | constants.O_DIRECTORY));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  return(): void {
    for (const fd of this.#namespaces) orAbort(attempt('setns', fd, 0));
    // Entering a namespace of mounts sets both directories to its root, from which they may have differed.
    const [root, working] = this.#directories;
    if (root === undefined || working === undefined) return;
    orAbort(attempt('fchdir', root));
    orAbort(attempt('chroot', '.'));
    orAbort(attempt('fchdir', working));
  }

  [Symbol.dispose](): void {
    for (const fd of [...this.#namespaces.splice(0), ...this.#directories.splice(0)]) closeFd(fd);
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
