import { dirname } from 'node:path';
import type { ImageRoots } from '#image';
import type { VmSpec } from '#spec';
import { stateDirectories } from '../store/paths.ts';
import type { VmHost } from '../vm-host.ts';

/**
 * The files that a job may name as its image or user data: those of its own task but Nomad's private ones, those that
 * the allocation's tasks share, and those of the operator. Not its neighbours', and not the driver's own state, wherever
 * these lie.
 */
export function allowedFiles(
  { allocDir, taskDir, shares }: Pick<VmSpec, 'allocDir' | 'taskDir' | 'shares'>,
  { dataDir, runDir, imagePaths }: Pick<VmHost, 'dataDir' | 'runDir' | 'imagePaths'>,
): ImageRoots {
  const trusted = [...imagePaths, dataDir];
  // Where Nomad has every allocation; an operator who names that very directory means it.
  const allocations = dirname(allocDir);
  return {
    trusted,
    task: [taskDir, `${allocDir}/alloc`],
    denied: [...stateDirectories(dataDir, runDir), `${taskDir}/private`],
    reserved: [allocDir, ...(trusted.includes(allocations) ? [] : [allocations])],
    relativeTo: [taskDir, allocDir, ...imagePaths],
    seenAs: shares.map(({ target, source }) => ({ path: target, dir: source })),
  };
}
