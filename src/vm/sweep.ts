import { access, stat } from 'node:fs/promises';
import type { VmPaths } from './plan.ts';
import { readRecord } from './record.ts';

/** Nomad recovers its tasks within seconds of a start; what nobody has claimed by then is looked at. */
export const sweepAfterMs = 10 * 60_000;

export interface SweepQuestion {
  readonly paths: VmPaths;
  /** The Nomad client that this process serves; VMs of another one that shares the data directory are left alone. */
  readonly nodeId: string;
  readonly nowMs: number;
}

/**
 * Whether a VM that no task claims is an orphan of this client: its allocation's directory is gone, or it never got
 * as far as having a record and nothing has happened in its directory for as long as Nomad might need.
 */
export async function isOrphan({ paths, nodeId, nowMs }: SweepQuestion): Promise<boolean> {
  const record = await readRecord(paths.record);
  if (record !== undefined) {
    return record.nodeId === nodeId && !(await exists(record.allocDir));
  }
  return nowMs - (await stat(paths.dir)).mtimeMs > sweepAfterMs;
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
