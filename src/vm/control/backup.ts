import { constants } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { reopenAside, UndoLog, within } from '#host';
import { checkDiskFile, createEmpty, maxQcow2Bytes } from '#image';
import type { Waiting } from '#spec';
import { messageOf } from '../error.ts';
import type { RecordedDisk } from '../store/device-record.ts';
import type { KeptFile } from '../store/kept-file.ts';
import type { VmPaths } from '../store/paths.ts';
import { decodeVmUndo, type VmUndo } from '../store/undo.ts';
import { endBackupJob, runBackupJob } from './backup-job.ts';
import { checkMaximum, shownNode } from './disk-growth.ts';
import { existsAlready, newFile } from './new-file.ts';
import { type Quiet, thaw, whileQuiet } from './quiet-guest.ts';

const lookMs = 15_000;
const eventMs = 10_000;

export interface BackupRequest {
  readonly disk: RecordedDisk;
  /** Absolute path of the file to make. */
  readonly path: string;
  /** Bytes per second at most; 0 is no limit. */
  readonly speed: number;
}

export interface BackupOf extends Quiet {
  readonly dataDir: string;
  /** Maximum size of a disk. */
  readonly maxDiskBytes: number;
  readonly paths: Pick<VmPaths, 'undo' | 'backup'>;
  readonly onFileGrowth: (bytes: number) => void;
  readonly report: (text: string) => void;
  readonly emit: (message: string, percent: number) => void;
}

/**
 * Makes a qcow2 file of a disk as it is now, while the guest goes on. The file appears with its whole content or not at
 * all. Returns how consistent it is, in a sentence.
 */
export async function backUp(
  { disk, path, speed }: BackupRequest,
  vm: BackupOf,
  waiting: Waiting,
): Promise<string> {
  const { qmp } = vm;
  using limited = within(lookMs, waiting);
  const nodes = await qmp.execute('query-named-block-nodes', { flat: true }, limited);
  const { virtualBytes } = shownNode(disk, nodes);
  checkMaximum(virtualBytes, vm.maxDiskBytes);
  using file = await newFile(path, vm.dataDir, waiting);
  let consistency: string | undefined;
  await noted(file, vm);
  try {
    await file.create(async (fd) => {
      await createEmpty({ fd, format: 'qcow2', virtualBytes });
      vm.onFileGrowth(maxQcow2Bytes(virtualBytes));
      consistency = await copied({ disk, fd, speed }, vm, waiting);
      await checkedBackup(fd, path, virtualBytes);
    }, waiting);
  } finally {
    await rm(vm.paths.backup, { force: true });
  }
  if (consistency === undefined) throw existsAlready(path);
  return consistency;
}

async function copied(
  { disk, ...job }: Pick<BackupRequest, 'disk' | 'speed'> & { readonly fd: number },
  vm: BackupOf,
  waiting: Waiting,
): Promise<string> {
  let consistency = '';
  const due = { atMs: 0, percent: -1 };
  await runBackupJob(
    {
      ...vm,
      ...job,
      node: disk.id,
      begin: async (start) => {
        consistency = await whileQuiet(start, vm, waiting);
      },
      onPercent: (percent) => {
        if (percent !== due.percent) vm.report(`${percent} %`);
        due.percent = percent;
        if (performance.now() < due.atMs) return;
        due.atMs = performance.now() + eventMs;
        vm.emit('Backing up the disk', percent);
      },
    },
    waiting,
  );
  return consistency;
}

/** QEMU wrote the file: it is judged like any other image before it has a name. */
async function checkedBackup(fd: number, path: string, maxVirtualBytes: number): Promise<void> {
  const read = await reopenAside(fd, constants.O_RDONLY);
  const image = await checkDiskFile({ fd: read, path }, { maxVirtualBytes, format: 'qcow2' });
  image[Symbol.dispose]();
}

/**
 * Written down first: the process that adopts the VM ends what this one began, and the VM's removal removes what is
 * left of the file.
 */
async function noted(file: KeptFile, { paths, log }: BackupOf): Promise<void> {
  const nothing = async (): Promise<void> => {};
  const undo = await UndoLog.open<VmUndo>(paths.undo, nothing, { decode: decodeVmUndo, log });
  await undo.keep().note({ kind: 'file', path: file.temporaryPath }, { lasting: true });
  await writeFile(paths.backup, file.temporaryPath, { mode: 0o600 });
}

/** Ends a backup that an earlier process began: its job, its hold on the guest, its file. Never rejects. */
export async function endForeignBackup(
  temporaryPath: string,
  { qmp, agent, log }: Quiet,
  { backup }: Pick<VmPaths, 'backup'>,
): Promise<void> {
  log.info('ending a backup that an earlier process began', { path: temporaryPath });
  await thaw(agent, log);
  await endBackupJob(qmp, log);
  try {
    await rm(temporaryPath, { force: true });
    await rm(backup, { force: true });
  } catch (error) {
    log.warn('a part of a backup is left', { path: temporaryPath, error: messageOf(error) });
  }
}
