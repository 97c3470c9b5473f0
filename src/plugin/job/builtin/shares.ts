import { posix } from 'node:path';
import { quoted, type ShareSpec } from '#spec';
import { isWithin } from '../../agent/paths.ts';
import { tagProblem } from '../../args/share-options.ts';
import type { TaskConfig } from '../../gen/driver_pb.ts';
import type { Job } from '../job.ts';
import { withPlaces } from '../places.ts';
import { sharesOf, taskDirOf } from '../shares.ts';
import { argKey, type Wishes } from './args.ts';

/** The directories of `-virtfs`, and those of `-fsdev` that a device has. */
export function readArgShares(
  wishes: Wishes,
  others: readonly ShareSpec[],
  { task, report }: Job,
): readonly ShareSpec[] {
  const devices = wishes.all('share-device');
  const shares = wishes.all('share').flatMap(({ id, path, tag, at }) => {
    const tags = tag === undefined ? devices.filter(({ fsdev }) => fsdev === id) : [{ tag }];
    return tags.map((device) => ({ tag: device.tag, path, at }));
  });
  const taken = new Set(others.map(({ tag }) => tag));
  for (const { fsdev, at } of devices) {
    if (!wishes.all('share').some(({ id }) => id === fsdev)) {
      report(argKey(at), `-device: there is no -fsdev with id=${fsdev}`);
    }
  }
  const possible = withPlaces(shares, { key: 'args', what: 'directories', report });
  return possible.flatMap(({ tag, path, at }) => {
    const source = directoryOf(path, task);
    const problem =
      tagProblem(tag) ??
      (taken.has(tag) ? `mount_tag ${quoted(tag)} is taken` : undefined) ??
      (source === undefined ? outside(path) : undefined);
    if (problem !== undefined) report(argKey(at), problem);
    taken.add(tag);
    if (problem !== undefined || source === undefined) return [];
    return [{ tag, source, target: `/mnt/${tag}`, readOnly: true, ninePfs: true }];
  });
}

function outside(path: string): string {
  return `${quoted(path)} is no directory of the task or the allocation: use a volume_mount`;
}

/** The directory on the host; undefined where it is not one that the task may read. */
function directoryOf(path: string, task: TaskConfig): string | undefined {
  const own = sharesOf(task);
  const wanted = posix.resolve(taskDirOf(task), path).replace(/\/$/, '');
  const candidates = [
    wanted,
    ...own.flatMap(({ source, target }) =>
      isWithin(wanted, target) ? [`${source}${wanted.slice(target.length)}`] : [],
    ),
  ];
  return candidates.find((candidate) => own.some(({ source }) => isWithin(candidate, source)));
}
