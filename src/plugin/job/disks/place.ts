import { type DiskPlace, listed, quoted, type StoragePools } from '#spec';
import type { Mount, TaskConfig } from '../../gen/driver_pb.ts';
import type { Job } from '../job.ts';
import type { DiskBlock, RawDisk } from './fields.ts';
import { parseNbd } from './nbd.ts';

/** Where the disk's content is kept: in a Nomad volume, on an NBD server, else in a pool. */
export function readPlace(block: DiskBlock, job: Job): DiskPlace {
  const { raw, report } = block;
  if (raw.file && !raw.volume) report('file', 'can only be set with volume');
  if (raw.source?.nbd) return readNbd(block, raw.source.nbd);
  if (raw.volume) return readVolume(block, raw.volume, job.task);
  return { kind: 'pool', pool: readPool(block, job.pools) };
}

/** Of the own pool, which is a directory, too. */
export function poolKind(
  place: DiskPlace,
  { pools }: StoragePools,
): 'directory' | 'ceph' | undefined {
  if (place.kind !== 'pool') return undefined;
  return pools.find(({ name }) => name === place.pool)?.kind ?? 'directory';
}

/** The volume mount of a task by its destination or by the name of the volume. */
export function findMount({ mounts }: TaskConfig, volume: string): Mount | undefined {
  const plain = withoutEnd(volume);
  return (
    mounts.find(({ taskPath }) => withoutEnd(taskPath) === plain) ??
    mounts.find(({ requestName }) => requestName !== '' && requestName === volume)
  );
}

/** A path without slashes at its end, in linear time: a pattern for them takes quadratic time for slashes elsewhere. */
function withoutEnd(path: string): string {
  let end = path.length;
  while (end > 1 && path[end - 1] === '/') end -= 1;
  return path.slice(0, end);
}

function readPool(
  { raw, report }: DiskBlock,
  { pools, default: defaultName }: StoragePools,
): string | undefined {
  if (!raw.pool) {
    if (pools.length === 0 && raw.source?.volume) {
      report('source.volume', 'there are no volumes without storage_pools in the plugin block');
    }
    return defaultName;
  }
  const names = pools.map(({ name }) => name);
  if (names.includes(raw.pool)) return raw.pool;
  const known =
    names.length === 0 ? 'this node has no storage_pools' : `known are ${listed(names)}`;
  report('pool', `could not load storage pool - pool not found: ${quoted(raw.pool)}; ${known}`);
  return undefined;
}

/** What a device and a directory both can't have. Other keys are judged when it is known which of them the volume is. */
const notInVolumes = ['pool', 'source.volume'];

function readVolume({ raw, report }: DiskBlock, volume: string, task: TaskConfig): DiskPlace {
  const mount = findMount(task, volume);
  if (mount === undefined) {
    const paths = task.mounts.map(({ taskPath }) => taskPath);
    const there = paths.length === 0 ? 'the task has none' : `there are ${listed(paths)}`;
    report(
      'volume',
      `missing Nomad volume mount configuration: no volume_mount has the destination ${quoted(volume)}; ${there}`,
    );
  }
  for (const key of notInVolumes.filter((key) => isWritten(raw, key))) {
    report(key, 'cannot be set when using Nomad volume');
  }
  if (raw.file && !/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/.test(raw.file)) {
    report('file', `${quoted(raw.file)} is not the plain name of a file`);
  }
  return {
    kind: 'volume',
    hostPath: mount?.hostPath ?? '',
    readOnly: mount?.readonly ?? false,
    ...(raw.file && { file: raw.file }),
  };
}

const notWithNbd = [
  'pool',
  'volume',
  'file',
  'size',
  'sparse',
  'chained',
  'source.image',
  'source.volume',
];

function readNbd({ raw, report }: DiskBlock, text: string): DiskPlace {
  for (const key of notWithNbd.filter((key) => isWritten(raw, key))) {
    report(key, 'cannot be set with source.nbd');
  }
  const place = parseNbd(text);
  if (place !== undefined) return place;
  const forms = '"nbd://host:port/export" or "nbd+unix:///export?socket=/path"';
  report('source.nbd', `${quoted(text)} is not ${forms}`);
  return { kind: 'pool', pool: undefined };
}

/** Whether the job sets a key, to something other than what its absence means. */
export function isWritten(raw: RawDisk, key: string): boolean {
  const written: Readonly<Record<string, unknown>> = {
    ...raw,
    sparse: raw.sparse !== undefined,
    discard: raw.discard !== undefined,
    ...Object.fromEntries(
      Object.entries(raw.source ?? {}).map(([name, value]) => [`source.${name}`, value]),
    ),
  };
  return Boolean(written[key]);
}
