import { mkdir } from 'node:fs/promises';
import { type ImageRoots, imageHandler, type OpenImage } from '#image';
import { type DiskSource, type DiskSpec, diskKey, type StoragePool, type Waiting } from '#spec';
import type { Site } from '../devices/device.ts';
import { VmError, withVmError } from '../error.ts';
import { poolDisks } from '../store/paths.ts';
import type { DiskHost } from './disk.ts';

export type DirectoryPool = Extract<StoragePool, { kind: 'directory' }>;

/** The pool of the disk; undefined: the driver's own. Throws VmError for one that the host does not have. */
export function poolOf(spec: DiskSpec, { pools: { pools } }: DiskHost): StoragePool | undefined {
  const { place } = spec;
  if (place.kind !== 'pool' || place.pool === undefined) return undefined;
  const found = pools.find(({ name }) => name === place.pool);
  if (found !== undefined) return found;
  const known = pools.map(({ name }) => name).join(', ') || 'none';
  const text = `there is no storage pool "${place.pool}" on this node; there are: ${known}`;
  throw new VmError('job', `${diskKey(spec, 'pool')}: ${text}`);
}

/** Opens and checks what the disk is created from; undefined for an empty disk. Throws VmError naming the key. */
export async function openSource(
  spec: DiskSpec,
  pool: DirectoryPool | undefined,
  { files, maxImageBytes }: DiskHost,
  waiting: Waiting,
): Promise<OpenImage | undefined> {
  const { source } = spec;
  const limit = { maxVirtualBytes: maxImageBytes };
  const open = (name: string, roots: ImageRoots, key: string): Promise<OpenImage> =>
    withVmError(() => imageHandler.getImageFormat(name, roots, limit, waiting), diskKey(spec, key));
  if (source === undefined) return undefined;
  if (source.kind === 'image') {
    checkImageKeys(spec, source);
    return withFormat(spec, source.format, await open(source.image, files, 'source.image'));
  }
  if (pool === undefined) {
    const text = `the driver's own pool has no volumes to use; name a pool of storage_pools`;
    throw new VmError('job', `${diskKey(spec, 'source.volume')}: ${text}`);
  }
  return await open(source.volume, volumesOf(pool), 'source.volume');
}

type ImageSource = Extract<DiskSource, { kind: 'image' }>;

/** Refused: a checksum that nothing is compared with would protect nothing. */
function checkImageKeys(spec: DiskSpec, source: ImageSource): void {
  for (const key of ['checksum', 'member'] as const) {
    if (source[key] === undefined) continue;
    throw new VmError('job', `${diskKey(spec, `source.${key}`)}: is not supported yet`);
  }
}

function withFormat(spec: DiskSpec, stated: ImageSource['format'], image: OpenImage): OpenImage {
  if (stated === undefined || stated === image.format) return image;
  image[Symbol.dispose]();
  const text = `${image.path} is ${image.format}, not ${stated}`;
  throw new VmError('job', `${diskKey(spec, 'source.format')}: ${text}`);
}

/** What an operator put into the pool, without the disks of VMs. */
function volumesOf(pool: DirectoryPool): ImageRoots {
  return { trusted: [pool.path], task: [], denied: [poolDisks(pool)], relativeTo: [pool.path] };
}

/** Creates the disk's file by `make`, in its pool or in the VM's directory. */
export async function createIn(
  pool: DirectoryPool | undefined,
  { name, primary }: DiskSpec,
  { vm, paths, undo }: Site,
  make: (path: string) => void | Promise<void>,
): Promise<string> {
  if (pool === undefined) {
    // The first disk's file has the name that it had when there was only one.
    const path = primary ? paths.disk : `${paths.dir}/${vm}_${name}.img`;
    await make(path);
    return path;
  }
  await mkdir(pool.path, { recursive: true, mode: 0o755 });
  await mkdir(poolDisks(pool), { recursive: true, mode: 0o700 });
  const path = `${poolDisks(pool)}/${vm}_${name}.img`;
  await undo.perform({ kind: 'file', path }, () => make(path));
  return path;
}
