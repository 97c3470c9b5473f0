import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { answered, type IdMap, userNamespaceTools } from '#host';
import type { Emulator } from '#qemu';
import { quoted, type ShareSpec, type Waiting } from '#spec';
import { messageOf, VmError } from '../../error.ts';
import { type ShareTools, shareTools } from './share-tools.ts';

/** From this id on a host has no accounts of its own: a range for the guest's users begins where the directory's owner is. */
const firstSubordinateId = 65_536;

/** Problems of the volumes that a guest is to mount; unlike the task's own directories, the job relies on them. */
export async function volumeShareProblems(
  shares: readonly ShareSpec[],
  emulator: Emulator,
  waiting: Waiting,
): Promise<readonly VmError[]> {
  const volumes = shares.filter(({ volume }) => volume === true);
  if (volumes.length === 0) return [];
  const tools = await shareTools(emulator, waiting);
  const problems = volumes.map((share) => problemOf(share, tools, waiting));
  return (await Promise.all(problems)).flatMap((problem) => problem ?? []);
}

async function problemOf(
  share: ShareSpec,
  tools: ShareTools,
  waiting: Waiting,
): Promise<VmError | undefined> {
  const { source, target, readOnly } = share;
  const problem = (text: string): VmError => problemWith(share, text);
  if (tools.kind === 'none') return problem(tools.reason);
  let stats: Stats;
  try {
    stats = await answered(source, (path) => stat(path), waiting);
  } catch (error) {
    waiting.signal.throwIfAborted();
    return problem(messageOf(error));
  }
  if (stats.isBlockDevice()) {
    return problem(
      `is a block device; name it in a disk block: disk { volume = ${quoted(target)} }`,
    );
  }
  if (!stats.isDirectory()) return problem(`${source} is not a directory`);
  if (readOnly) return undefined;
  if (tools.kind !== 'virtiofs') {
    return problem(
      'a directory can be writable over virtiofs only; install virtiofsd, or set read_only',
    );
  }
  if (userNamespaceTools() === undefined) {
    return problem(
      'a writable directory needs the programs unshare and nsenter; install util-linux',
    );
  }
  return stats.uid === 0 ? problem(ofRoot(share)) : undefined;
}

function problemWith({ target }: ShareSpec, text: string): VmError {
  return new VmError('host', `volume_mount ${quoted(target)}: ${text}`, { recoverable: true });
}

function ofRoot({ source }: ShareSpec): string {
  const id = 200_000;
  return `${source} belongs to root, which the guest's root must not be on this host; give it to another user, for example: chown ${id}:${id} ${source}; or set read_only`;
}

/**
 * Who the guest's users are in a writable directory: its owner is the guest's root. Where the owner is beyond the
 * host's own accounts, the guest's other users are the ids that follow; else they have no place in it. Throws VmError where the
 * owner is root: another task that has the volume may have changed that since it was checked.
 */
export function idMapOf({ uid }: Pick<Stats, 'uid'>, share: ShareSpec): IdMap {
  if (uid === 0) throw problemWith(share, ofRoot(share));
  return { firstId: uid, count: uid < firstSubordinateId ? 1 : 65_536 };
}
