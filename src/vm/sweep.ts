import { access, stat } from 'node:fs/promises';
import { findByMark, type Waiting } from '#host';
import type { VmPaths } from './paths.ts';
import { readRecord } from './record.ts';

/** Nomad recovers its tasks within seconds of a start; what nobody has claimed by then is looked at. */
export const firstSweepMs = 60_000;
export const sweepEveryMs = 10 * 60_000;
/** Longest look at one VM. */
export const sweepLookMs = 10_000;

export interface SweepQuestion {
  readonly paths: VmPaths;
  /** The Nomad client that this process serves; VMs of another one that shares the data directory are left alone. */
  readonly nodeId: string;
  readonly nowMs: number;
}

/**
 * Whether a VM that no task claims is an orphan: its allocation's directory is gone, and it is this client's or has
 * no process any more; or it never got as far as having a record and nothing has happened in its directory for as
 * long as a start may take.
 */
export async function isOrphan(
  { paths, nodeId, nowMs }: SweepQuestion,
  waiting: Waiting,
): Promise<boolean> {
  const record = await readRecord(paths.record);
  if (record !== undefined) {
    if (await exists(record.allocDir)) return false;
    if (nodeId !== '' && record.nodeId === nodeId) return true;
    return (await findByMark(record.uuid, [record.uid], waiting)).length === 0;
  }
  return nowMs - (await stat(paths.dir)).mtimeMs > sweepEveryMs;
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    // A file system that hangs or is out of reach has lost nothing.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
    return true;
  }
}
