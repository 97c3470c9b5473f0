import { constants, stat } from 'node:fs';
import { closeFd, openPath } from './descriptor.ts';
import { attempt, must } from './libc.ts';

const cloneNewIpc = 0x08000000;
const cloneNewNet = 0x40000000;
let poolStarted = false;

/**
 * Runs `run` with the main thread inside the network namespace at `path` (e.g. /run/netns/x) and returns its answer.
 * Only what `run` does synchronously happens there: system calls of this thread, and programs it spawns, which stay
 * there. libuv's pool threads (asynchronous file and DNS calls) are not moved; a promise may not be returned. Not being
 * able to return home ends this process, for every later socket would be in the wrong place. Throws HostError.
 */
export function withNetns<T>(path: string, run: () => T): T {
  return elsewhere(['net'], () => enter(path), run);
}

/**
 * Runs `run` with the main thread in a network and an IPC namespace that are new: no links but a loopback that is down,
 * no abstract socket, no shared memory and no queue of anybody else. What `run` spawns stays there, alone; they go with
 * it. For the rest as `withNetns`.
 */
export function inEmptyNamespaces<T>(run: () => T): T {
  const what = 'making namespaces for network and IPC';
  const both = cloneNewNet | cloneNewIpc;
  return elsewhere(['net', 'ipc'], () => must(what, 'unshare', both), run);
}

type NamespaceKind = 'ipc' | 'net';

function elsewhere<T>(kinds: readonly NamespaceKind[], leave: () => void, run: () => T): T {
  startPool();
  using home = new Home(kinds);
  leave();
  try {
    const result = run();
    if (result instanceof Promise) throw new Error('in a namespace, run must be synchronous');
    return result;
  } finally {
    home.return();
  }
}

function enter(path: string): void {
  const there = openPath(path, constants.O_RDONLY);
  try {
    must(`entering the network namespace ${path}`, 'setns', there, cloneNewNet);
  } finally {
    closeFd(there);
  }
}

/** The namespaces that the main thread is in when this is made. */
class Home implements Disposable {
  readonly #fds: number[] = [];

  constructor(kinds: readonly NamespaceKind[]) {
    try {
      for (const kind of kinds) {
        this.#fds.push(openPath(`/proc/thread-self/ns/${kind}`, constants.O_RDONLY));
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  return(): void {
    for (const fd of this.#fds) {
      const { errno } = attempt('setns', fd, 0);
      if (errno === undefined) continue;
      console.error(`cannot return from a namespace (${errno}): giving up`);
      process.abort();
    }
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.splice(0)) closeFd(fd);
  }
}

/** Threads inherit the namespace of their maker, and libuv makes its pool on first use: have it made at home. */
function startPool(): void {
  if (poolStarted) return;
  poolStarted = true;
  stat('/', () => undefined);
}
