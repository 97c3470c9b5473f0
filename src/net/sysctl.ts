import { readFileSync, writeFileSync } from 'node:fs';

/**
 * A setting below /proc/sys, e.g. `net/ipv4/ip_forward`; those below net/ belong to this process's network namespace.
 * undefined where the kernel has no such setting (IPv6 may be compiled out, a link may have gone).
 */
export function readSysctl(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${name}`, 'utf8').trim();
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** false where there is no such setting. */
export function writeSysctl(name: string, value: string): boolean {
  const now = readSysctl(name);
  if (now === undefined) return false;
  if (now !== value) writeFileSync(`/proc/sys/${name}`, value);
  return true;
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
