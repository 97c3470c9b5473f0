import { readFileSync, writeFileSync } from 'node:fs';
import { errnoOf } from '#host';
import { netError } from './error.ts';

/**
 * A setting below /proc/sys, e.g. `net/ipv4/ip_forward`; those below net/ belong to this process's network namespace.
 * undefined where the kernel has no such setting (IPv6 may be compiled out, a link may have disappeared). Throws NetError.
 */
export function readSysctl(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${name}`, 'utf8').trim();
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return undefined;
    throw netError(`reading /proc/sys/${name} failed`, cause);
  }
}

/** Does nothing where there is no such setting. Throws NetError where it can't be changed. */
export function writeSysctl(name: string, value: string): void {
  const now = readSysctl(name);
  if (now === undefined || now === value) return;
  try {
    writeFileSync(`/proc/sys/${name}`, value);
  } catch (cause) {
    throw netError(`setting /proc/sys/${name} to ${value} failed`, cause);
  }
}
