import { dirname } from 'node:path';
import type { ImageRoots } from '#image';
import type { VmSpec } from '#spec';
import { poolDirectories, stateDirectories } from '../store/paths.ts';
import type { VmHost } from '../vm-host.ts';

/**
 * The files that a job may name as its image or user data: those of its own task except Nomad's private ones, those
 * that the allocation's tasks share, and those of the operator. Never those of other tasks, and never the driver's own
 * state, wherever these are.
 */
export function allowedFiles(
  { allocDir, taskDir, shares }: Pick<VmSpec, 'allocDir' | 'taskDir' | 'shares'>,
  {
    dataDir,
    runDir,
    imagePaths,
    pools,
  }: Pick<VmHost, 'dataDir' | 'runDir' | 'imagePaths' | 'pools'>,
): ImageRoots {
  const trusted = [...imagePaths, dataDir];
  // The directory of all allocations: allowed only where the operator configured exactly this directory.
  const allocations = dirname(allocDir);
  return {
    trusted,
    task: [taskDir, `${allocDir}/alloc`],
    denied: [...stateDirectories(dataDir, runDir), ...poolDirectories(pools), `${taskDir}/private`],
    reserved: [allocDir, ...(trusted.includes(allocations) ? [] : [allocations])],
    relativeTo: [taskDir, allocDir, ...imagePaths],
    seenAs: seenAs({ allocDir, taskDir, shares }),
  };
}

/** The values of NOMAD_TASK_DIR and its like, which a job has whether its guest mounts them or not. */
function seenAs({ allocDir, taskDir, shares }: Pick<VmSpec, 'allocDir' | 'taskDir' | 'shares'>) {
  const own = {
    '/alloc': `${allocDir}/alloc`,
    '/local': `${taskDir}/local`,
    '/secrets': `${taskDir}/secrets`,
  };
  const others = shares.filter(({ target }) => !Object.hasOwn(own, target));
  return [
    ...Object.entries(own).map(([path, dir]) => ({ path, dir })),
    ...others.map(({ target, source }) => ({ path: target, dir: source })),
  ];
}
