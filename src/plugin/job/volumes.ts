import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { quoted, type ShareSpec } from '#spec';
import type { Mount } from '../gen/driver_pb.ts';
import type { Job } from './job.ts';
import { withPlaces } from './places.ts';
import { sharesOf } from './shares.ts';

/** The limit of 9p; virtiofs has 36 bytes. */
const maxTagBytes = 31;
/** PATH_MAX is 4096 with its NUL. */
const maxPathBytes = 4095;

/**
 * The volume mounts that become directories of the guest; `diskMounts` are the destinations of those that are disks. Options
 * that no guest can have are refused for both.
 */
export function readVolumes(
  { task, report }: Job,
  diskMounts: ReadonlySet<string>,
): readonly ShareSpec[] {
  const own = sharesOf(task);
  const targets = new Set(own.map(({ target }) => target));
  const tags = new Set(own.map(({ tag }) => tag));
  for (const mount of task.mounts) {
    const problem = optionProblem(mount);
    if (problem !== undefined) report('volume_mount', `${quoted(mount.taskPath)} ${problem}`);
  }
  const mounts = task.mounts.filter(({ taskPath }) => !diskMounts.has(taskPath));
  const possible = withPlaces(mounts, { key: 'volume_mount', what: 'directories', report });
  return possible.map((mount) => {
    // Absolute, as for a container.
    const target = posix.resolve('/', mount.taskPath.slice(0, maxPathBytes));
    const taken = targets.has(target) ? 'is a mount already' : undefined;
    const problem = targetProblem(mount, target) ?? taken;
    if (problem !== undefined) report('volume_mount', `${quoted(target)} ${problem}`);
    const tag = tagOf(target, tags);
    targets.add(target);
    tags.add(tag);
    return { tag, source: mount.hostPath, target, readOnly: mount.readonly, volume: true };
  });
}

function targetProblem({ taskPath }: Mount, target: string): string | undefined {
  const tooLong = Buffer.byteLength(taskPath) > maxPathBytes;
  if (tooLong || target === '/' || /\p{Cc}/u.test(target)) return 'is no directory to mount at';
  return undefined;
}

function optionProblem({ propagationMode, selinuxLabel }: Mount): string | undefined {
  if (propagationMode !== '' && propagationMode !== 'private') {
    const mode = quoted(propagationMode);
    return `can't have propagation_mode ${mode}: a guest has mounts of its own; use "private"`;
  }
  if (selinuxLabel === '') return undefined;
  return "can't have selinux_label: a guest does not see the labels of the host; leave it out";
}

/** `/srv/data` → `_srv_data`, as nomad-driver-virt has it; one that is too long or taken gets a digest. */
function tagOf(target: string, taken: ReadonlySet<string>): string {
  // One more than fits, whatever the length of the rest.
  const plain = target.slice(0, maxTagBytes + 1).replace(/[^A-Za-z0-9_.-]/g, '_');
  if (plain.length <= maxTagBytes && !taken.has(plain)) return plain;
  const digest = createHash('sha256').update(target).digest('hex').slice(0, 8);
  return `${plain.slice(0, maxTagBytes - 9)}-${digest}`;
}
