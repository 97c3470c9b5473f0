import { stat } from 'node:fs/promises';
import type { Waiting } from '#spec';
import { VmError } from '../error.ts';
import type { VmPaths } from './paths.ts';
import { readRecord, type VmRecord } from './record.ts';
import { isGone } from './remove.ts';
import { processesIn } from './undo.ts';

/** Nomad recovers its tasks within seconds of a start; what is unclaimed after this time is checked. */
export const firstSweepMs = 60_000;
export const sweepEveryMs = 10 * 60_000;
/** Longer than a start may take, whose process may be another one: a large image may be copied for minutes. */
const maxStartMs = 45 * 60_000;
/** Maximum for the check of one VM. */
export const maxCheckMs = 10_000;

export interface SweepQuestion {
  readonly paths: VmPaths;
  /** The Nomad client that this process serves; VMs of another one that shares the data directory are left alone. */
  readonly nodeId: string;
  /** How long this process has served it. */
  readonly servedMs: number;
  readonly nowMs: number;
}

/**
 * Whether a VM that no task claims is an orphan:
 * - its allocation's directory is gone, and the VM belongs to this client or has no process any more;
 * - it has neither process nor run directory: its removal was begun, or the host restarted, and no task can claim it;
 * - it has no process, and this client had time to claim it;
 * - it has no record and its directory has not changed for longer than a start may take.
 */
export async function isOrphan(question: SweepQuestion, waiting: Waiting): Promise<boolean> {
  const { paths, nodeId, servedMs, nowMs } = question;
  const record = await recordOf(paths.record);
  const runs = async (): Promise<boolean> => (await processesIn(paths.undo, waiting)).length > 0;
  if (record === undefined) {
    return nowMs - (await stat(paths.dir)).mtimeMs > maxStartMs && !(await runs());
  }
  const own = nodeId !== '' && record.nodeId === nodeId;
  if (!(await exists(record.allocDir))) return own || !(await runs());
  if (await runs()) return false;
  return !(await exists(record.runDir)) || (own && servedMs > sweepEveryMs);
}

/** Undefined as well for a record that a power cut tore, or that a later version wrote. */
async function recordOf(path: string): Promise<VmRecord | undefined> {
  try {
    return await readRecord(path);
  } catch (error) {
    const { cause } = error instanceof VmError ? error : { cause: error };
    if (cause === undefined || cause instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** On a file system that hangs or is out of reach nothing is lost. */
const exists = (path: string): Promise<boolean> =>
  isGone(path).then(
    (gone) => !gone,
    () => true,
  );
