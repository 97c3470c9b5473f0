import { constants, stat } from 'node:fs';
import { closeFd, openPath } from './descriptor.ts';
import { attempt, must } from './libc.ts';

const cloneNewNet = 0x40000000;
let poolStarted = false;

/**
 * Runs `run` with the main thread inside the network namespace at `path` (e.g. /run/netns/x) and returns its answer.
 * Only what `run` does synchronously happens there: system calls of this thread, and programs it spawns, which stay
 * there. libuv's pool threads (asynchronous file and DNS calls) are not moved; a promise may not be returned. Not being
 * able to return home ends this process, for every later socket would be in the wrong place. Throws HostError.
 */
export function withNetns<T>(path: string, run: () => T): T {
  startPool();
  const home = openPath('/proc/thread-self/ns/net', constants.O_RDONLY);
  try {
    const there = openPath(path, constants.O_RDONLY);
    try {
      must(`entering the network namespace ${path}`, 'setns', there, cloneNewNet);
    } finally {
      closeFd(there);
    }
    try {
      const result = run();
      if (result instanceof Promise) throw new Error('withNetns: run must be synchronous');
      return result;
    } finally {
      returnHome(home);
    }
  } finally {
    closeFd(home);
  }
}

/** Threads inherit the namespace of their maker, and libuv makes its pool on first use: have it made at home. */
function startPool(): void {
  if (poolStarted) return;
  poolStarted = true;
  stat('/', () => undefined);
}

function returnHome(home: number): void {
  const { errno } = attempt('setns', home, cloneNewNet);
  if (errno === undefined) return;
  console.error(`cannot return from a network namespace (${errno}): giving up`);
  process.abort();
}
