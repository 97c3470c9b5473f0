import { constants } from 'node:fs';
import type { Waiting } from '#spec';
import { HostError } from '../error.ts';
import { closeFd, openPath } from '../files/descriptor.ts';
import { must } from '../native/libc.ts';
import { within } from '../waiting.ts';
import { cloneNew, elsewhere } from './elsewhere.ts';
import { openNew } from './new-namespaces.ts';

/**
 * Descriptors of a network and of an IPC namespace: no links but a loopback that is down, no abstract sockets, shared memory
 * or message queues of other processes. They end with what is started in them, once the descriptors are closed.
 */
export interface EmptyNamespaces {
  readonly net: number;
  readonly ipc: number;
}

const openMs = 30_000;

/**
 * Makes new ones, in another process: the kernel waits for its lock of all links (RTNL) again and again meanwhile. Undefined
 * where that process fails; why, `inEmptyNamespaces` reports. Throws HostError where it takes too long, and the signal's reason.
 */
export async function openEmpty(waiting?: Waiting): Promise<EmptyNamespaces | undefined> {
  using limited = within(openMs, waiting);
  try {
    return await openNew(['net', 'ipc'], openBoth, limited);
  } catch (cause) {
    waiting?.signal.throwIfAborted();
    if (!limited.signal.aborted) return undefined;
    const text = `making namespaces for network and IPC: not done within ${openMs / 1000} s`;
    throw new HostError(text, { cause });
  }
}

function openBoth(pid: number): EmptyNamespaces {
  const net = openPath(`/proc/${pid}/ns/net`, constants.O_RDONLY);
  try {
    return { net, ipc: openPath(`/proc/${pid}/ns/ipc`, constants.O_RDONLY) };
  } catch (error) {
    closeFd(net);
    throw error;
  }
}

export function closeEmpty({ net, ipc }: EmptyNamespaces): void {
  closeFd(net);
  closeFd(ipc);
}

/**
 * Runs `run` with the main thread in empty namespaces, made now where there are none. What `run` spawns stays there.
 * Otherwise as `withNetns`.
 */
export function inEmptyNamespaces<T>(empty: EmptyNamespaces | undefined, run: () => T): T {
  const what = 'making namespaces for network and IPC';
  const both = cloneNew.net | cloneNew.ipc;
  if (empty === undefined) return elsewhere(['net', 'ipc'], () => must(what, 'unshare', both), run);
  return inside('net', empty.net, () => inside('ipc', empty.ipc, run));
}

function inside<T>(kind: 'net' | 'ipc', fd: number, run: () => T): T {
  const what = `entering a new namespace (${kind})`;
  return elsewhere([kind], () => must(what, 'setns', fd, cloneNew[kind]), run);
}
