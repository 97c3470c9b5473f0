import { constants } from 'node:fs';
import { closeFd, openPath } from '../files/descriptor.ts';
import { must } from '../native/libc.ts';
import { cloneNew, elsewhere } from './elsewhere.ts';

/**
 * Runs `run` with the main thread inside the network namespace at `path` (e.g. /run/netns/x) and returns its result.
 * Only what it does synchronously happens there, as with `elsewhere`. Throws HostError.
 */
export function withNetns<T>(path: string, run: () => T): T {
  return elsewhere(['net'], () => enter(path), run);
}

/**
 * Runs `run`, which starts one program, the first of a new namespace of processes: when it ends, the kernel ends all that
 * it has started before its end is reported. Otherwise as `withNetns`.
 */
export function inProcessNamespace<T>(run: () => T): T {
  const what = 'making a namespace for processes';
  return elsewhere(['pid'], () => must(what, 'unshare', cloneNew.pid), run);
}

function enter(path: string): void {
  const there = openPath(path, constants.O_RDONLY);
  try {
    must(`entering the network namespace ${path}`, 'setns', there, cloneNew.net);
  } finally {
    closeFd(there);
  }
}
