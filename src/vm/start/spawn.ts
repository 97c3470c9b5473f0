import { constants } from 'node:fs';
import {
  type BareFile,
  type EmptyNamespaces,
  limitProcess,
  memfd,
  openPath,
  type SpawnedProcess,
  spawnDetached,
} from '#host';
import { type CommandLine, type MachinePlan, vmGid } from '#qemu';
import type { Site } from '../devices/device.ts';
import type { QemuLimits } from '../live/limits.ts';
import { openJournal } from '../logs/journal.ts';
import { uuidOf } from '../store/paths.ts';

/** Spawns QEMU as the VM's user, with the files of its command line and no others. */
export async function spawnQemu(
  {
    program,
    line,
    machine,
    limits,
    bareRoot,
    empty,
  }: {
    readonly program: string;
    readonly line: CommandLine;
    readonly machine: MachinePlan;
    readonly limits: QemuLimits;
    /** Whether QEMU's root file system has only the host's /usr. */
    readonly bareRoot: boolean;
    /** Where it runs if it needs no network. */
    readonly empty: EmptyNamespaces | undefined;
  },
  { paths, uid, undo, files }: Site,
): Promise<SpawnedProcess> {
  const append = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;
  // The journal's monitor reads its only command from this file; the end of the file does not end the session.
  const negotiation = files.own(memfd('journal', Buffer.from('{"execute":"qmp_capabilities"}\n')));
  const journal = files.own(openJournal(paths.journal));
  const messages = files.own(openPath(paths.messages, append, 0o600));
  // QEMU inherits it. No core dumps: one of QEMU would hold the guest's memory, one of the plugin every task's secrets.
  limitProcess(process.pid, { core: 0 });
  const step = { kind: 'process', mark: uuidOf(paths.dir), program, uid } as const;
  return await undo.perform(step, () =>
    spawnDetached({
      program,
      args: line.argv,
      cwd: '/',
      uid,
      gid: machine.accelerator === 'kvm' ? vmGid(uid) : uid,
      stdio: [negotiation, journal, messages, ...files.inOrder(line.files)],
      alone: !line.network && (empty ?? true),
      bareRoot,
      ...(bareRoot && line.reads.length > 0 && { bareFiles: line.reads.map(readOnly) }),
      limits: { openFiles: limits.openFiles, processes: limits.processes },
    }),
  );
}

/** In the bare root it has the name that it has on the host. */
function readOnly(path: string): BareFile {
  return { path, name: path.slice(1), writable: false };
}
