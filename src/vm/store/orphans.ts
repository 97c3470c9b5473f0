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

/** The Nomad client that a plugin process serves; VMs of another one that shares the data directory are left alone. */
export interface Client {
  readonly nodeId: string;
  /** The driver name that the process goes by; undefined: not known. */
  readonly driverName?: string;
}

export interface SweepQuestion {
  readonly paths: VmPaths;
  readonly client: Client;
  /** How long this process has served it. */
  readonly servedMs: number;
  readonly nowMs: number;
}

/**
 * Whether a VM that no task claims is an orphan:
 * - its allocation's directory is gone, and the VM belongs to this client or has no process any more;
 * - it has neither process nor run directory: its removal was begun, or the host restarted, and no task can claim it;
 * - it has no process, and this client had time to claim it from this process;
 * - it has no record and its directory has not changed for longer than a start may take.
 */
export async function isOrphan(question: SweepQuestion, waiting: Waiting): Promise<boolean> {
  const { paths, client, servedMs, nowMs } = question;
  const record = await recordOf(paths.record);
  const runs = async (): Promise<boolean> => (await processesIn(paths.undo, waiting)).length > 0;
  if (record === undefined) {
    return nowMs - (await stat(paths.dir)).mtimeMs > maxStartMs && !(await runs());
  }
  const own = client.nodeId !== '' && record.nodeId === client.nodeId;
  if (!(await exists(record.allocDir))) return own || !(await runs());
  if (await runs()) return false;
  return (
    !(await exists(record.runDir)) || (own && isServed(record, client) && servedMs > sweepEveryMs)
  );
}

/** Whether the task would be claimed from this process, and not from that of another driver name on one data_dir. */
function isServed(record: VmRecord, { driverName }: Client): boolean {
  const names = [record.driverName, driverName];
  return names.includes(undefined) || record.driverName === driverName;
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
