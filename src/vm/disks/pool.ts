import { mkdir, stat } from 'node:fs/promises';
import { answered } from '#host';
import { type DiskSpec, diskKey, type StoragePool, type Waiting } from '#spec';
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

/** Throws VmError where the pool's file system does not answer; its directory may not exist yet. */
export async function checkPool(
  { path }: DirectoryPool,
  spec: DiskSpec,
  waiting: Waiting,
): Promise<void> {
  const look = (pool: string): Promise<unknown> => stat(pool).catch(() => undefined);
  await withVmError(() => answered(path, look, waiting), diskKey(spec, 'pool'));
}

/** Creates the disk's file by `make`, in its pool or in the VM's directory. */
export async function createIn(
  pool: DirectoryPool | undefined,
  { name, primary }: DiskSpec,
  { vm, paths, undo }: Pick<Site, 'vm' | 'paths' | 'undo'>,
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
  await undo.perform({ kind: 'file', path }, () => make(path), { lasting: true });
  return path;
}
