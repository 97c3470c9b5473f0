import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { mountTmpfs, UndoLog } from '#host';
import type { VmSpec, Waiting } from '#spec';
import type { Site } from '../devices/device.ts';
import { OpenFiles } from '../devices/files.ts';
import { withVmError } from '../error.ts';
import { journalBytes } from '../logs/journal.ts';
import { consoleHistoryBytes } from '../logs/log-relay.ts';
import { operatorHistoryBytes } from '../logs/operator-console.ts';
import { type VmPaths, vmPaths } from '../store/paths.ts';
import { claimUid } from '../store/uid.ts';
import { decodeVmUndo, undoStep, type VmUndo } from '../store/undo.ts';
import type { Emit } from '../task-event.ts';
import type { VmHost } from '../vm-host.ts';

/** Space on the VM's tmpfs for everything but history and seed: sockets, marks, QEMU's own messages. */
const tmpfsSlackBytes = 256 * 1024;

/** Maximum of files on the VM's tmpfs; about forty are used. */
const maxTmpfsFiles = 128;

/**
 * Creates what every VM needs first: its directory with the undo log, its tmpfs, its user id. After a failed start the
 * caller undoes everything from the log, as for a VM that runs.
 */
export async function openSite(
  spec: Pick<VmSpec, 'name' | 'allocDir'>,
  { host, emit }: { readonly host: VmHost; readonly emit: Emit },
  seedBytes: number,
  waiting: Waiting,
): Promise<Site & AsyncDisposable> {
  const { name: vm, allocDir } = spec;
  const paths = vmPaths(vm, host.dataDir, host.runDir);
  return withVmError(async () => {
    await mkdir(dirname(paths.dir), { recursive: true, mode: 0o700 });
    await mkdir(paths.dir, { mode: 0o700 });
    const { log, held } = await UndoLog.make<VmUndo>(
      paths.undo,
      (step, rollback) => undoStep(step, host, rollback),
      { decode: decodeVmUndo, log: host.log },
    );
    const undo = log.keep();
    await using opened = new AsyncDisposableStack();
    opened.use(held);
    await undo.perform({ kind: 'mount', target: paths.run }, () => mountRun(paths, seedBytes));
    const uid = await claimUid(
      vm,
      { dir: `${host.dataDir}/uids`, range: host.uidRange },
      (file, make) => undo.perform({ kind: 'uid', file, name: vm }, make),
      waiting,
    );
    const files = opened.use(new OpenFiles());
    const all = opened.move();
    const close = { [Symbol.asyncDispose]: () => all.disposeAsync() };
    return { vm, paths, allocDir, uid, undo, files, emit, log: host.log, ...close };
  });
}

async function mountRun({ run }: VmPaths, seedBytes: number): Promise<void> {
  // Shared by all VMs; searchable, because a QEMU that serves directories over 9p must reach a path below it.
  await mkdir(dirname(run), { recursive: true, mode: 0o711 });
  await mkdir(run, { recursive: true, mode: 0o700 });
  const sizeBytes =
    consoleHistoryBytes + operatorHistoryBytes + journalBytes + seedBytes + tmpfsSlackBytes;
  mountTmpfs(run, { sizeBytes, mode: 0o700, maxFiles: maxTmpfsFiles });
}
