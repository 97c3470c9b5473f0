import { readdirSync, readlinkSync } from 'node:fs';

/** Paths of what a process has open; what it closes meanwhile is left out. */
export function openFiles(pid: number): readonly string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return [];
    }
  });
}
