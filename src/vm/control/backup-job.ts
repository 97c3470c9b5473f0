import { constants } from 'node:fs';
import { closeLater, type Logger, reopenAside, slept, within } from '#host';
import { type QmpClient, QmpError } from '#qmp';
import type { Waiting } from '#spec';
import { messageOf, VmError } from '../error.ts';
import { lendFiles } from '../lent-files.ts';

/** Also the name of the node that is written to; there is one at a time. */
const id = 'backup';
const answerMs = 15_000;
const endMs = 30_000;
const pollMs = 250;

export interface BackupJob {
  /** The disk's own node. */
  readonly node: string;
  /** An empty qcow2 file of the disk's size. */
  readonly fd: number;
  /** Bytes per second at most; 0 is no limit. */
  readonly speed: number;
  /** Calls this to begin, at a moment that the backup is to be of. */
  readonly begin: (start: () => Promise<void>) => Promise<void>;
  readonly onPercent: (percent: number) => void;
  readonly qmp: QmpClient;
  readonly log: Logger;
}

/**
 * Copies a disk, as it was at one moment, into a file while its guest goes on. QEMU has the file no longer than that
 * takes. Throws VmError; when the signal aborts, its reason.
 */
export async function runBackupJob(job: BackupJob, waiting: Waiting): Promise<void> {
  using opened = new DisposableStack();
  const fd = opened.adopt(await reopenAside(job.fd, constants.O_RDWR), closeLater);
  using limited = within(answerMs, waiting);
  await lendFiles([fd], job.qmp, (path) => copyTo(path, job, waiting), limited);
}

async function copyTo(path: string, job: BackupJob, waiting: Waiting): Promise<void> {
  const { qmp, log } = job;
  try {
    using limited = within(answerMs, waiting);
    await qmp.execute('blockdev-add', target(path), limited);
    await job.begin(() => start(job, waiting));
    await finished(job, waiting);
  } catch (cause) {
    waiting.signal.throwIfAborted();
    if (!(cause instanceof QmpError)) throw cause;
    throw new VmError('host', `QEMU made no backup: ${cause.message}`, { cause });
  } finally {
    await endBackupJob(qmp, log);
  }
}

function target(filename: string): Readonly<Record<string, unknown>> {
  const file = { driver: 'file', filename, aio: 'threads', discard: 'unmap', locking: 'off' };
  return { driver: 'qcow2', 'node-name': id, discard: 'unmap', file };
}

async function start({ node, speed, qmp }: BackupJob, waiting: Waiting): Promise<void> {
  using limited = within(answerMs, waiting);
  const copied = { 'job-id': id, device: node, target: id, speed, sync: 'full' } as const;
  // The guest never waits for the file: a write error of the backup is the end of the backup.
  const ends = { 'on-target-error': 'report', 'auto-dismiss': false } as const;
  await qmp.execute('blockdev-backup', { ...copied, ...ends }, limited);
}

async function finished({ qmp, onPercent }: BackupJob, waiting: Waiting): Promise<void> {
  for (;;) {
    using limited = within(answerMs, waiting);
    const job = await backupJob(qmp, limited);
    if (job === undefined) throw new VmError('host', 'QEMU has lost the backup');
    if (job.status === 'concluded') {
      if (job.error === undefined) return;
      throw new VmError('host', `the backup failed: ${job.error}`);
    }
    const { 'current-progress': done, 'total-progress': total } = job;
    onPercent(total > 0 ? Math.floor((100 * done) / total) : 0);
    if (!(await slept(pollMs, waiting))) waiting.signal.throwIfAborted();
  }
}

async function backupJob(qmp: QmpClient, waiting: Waiting) {
  const jobs = await qmp.execute('query-jobs', {}, waiting);
  return jobs.find((it) => it.id === id);
}

/** Ends what there is of a backup, also one that an earlier process began. Never rejects: a QEMU that ends has none. */
export async function endBackupJob(qmp: QmpClient, log: Logger): Promise<void> {
  using limited = within(endMs);
  try {
    for (;;) {
      const job = await backupJob(qmp, limited);
      if (job === undefined) break;
      const end = job.status === 'concluded' ? 'job-dismiss' : 'job-cancel';
      // One that ends by itself at this moment can't be cancelled any more.
      await qmp.execute(end, { id }, limited).catch(unlessRefused);
      if (end === 'job-cancel' && !(await slept(pollMs / 10, limited))) break;
    }
    await qmp.execute('blockdev-del', { 'node-name': id }, limited).catch(unlessRefused);
  } catch (error) {
    log.debug('a backup may be left in QEMU', { error: messageOf(error) });
  }
}

function unlessRefused(error: unknown): void {
  if (!(error instanceof QmpError) || error.code !== 'command') throw error;
}
