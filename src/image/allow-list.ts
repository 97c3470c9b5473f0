import { realpath } from 'node:fs/promises';
import { isAbsolute, relative } from 'node:path';
import { answered, errnoOf } from '#host';
import type { Waiting } from '#spec';
import { ImageError } from './error.ts';

/** The allow-list: absolute directories, of which some may not exist. */
export interface ImageRoots {
  /** Directories that only the operator writes: `image_paths`, `data_dir`. */
  readonly trusted: readonly string[];
  /** Directories that the task or its neighbours write: there a file with a second name is refused. */
  readonly task: readonly string[];
  /** Directories inside the others from which no file is allowed: the disks and seeds of other VMs. */
  readonly denied?: readonly string[];
  /** Directories of all tasks: inside them a file is allowed only by a deeper directory of the lists above. */
  readonly reserved?: readonly string[];
  /** Where relative names are looked up, in this order. It does not allow a file. */
  readonly relativeTo: readonly string[];
  /** The paths at which a job sees its directories, where the host has nothing that is allowed. */
  readonly seenAs?: readonly { readonly path: string; readonly dir: string }[];
}

/** A directory of the allow-list: as it was named, and its path without links where it exists. */
export interface Root {
  readonly named: string;
  readonly real: string | undefined;
  /** Whether it exists is not known: its file system does not answer. */
  readonly silent?: boolean;
  readonly kind: 'trusted' | 'task' | 'reserved' | 'denied';
}

/** The directories as they are now. */
export async function findRoots(roots: ImageRoots, waiting: Waiting): Promise<readonly Root[]> {
  const { denied = [], reserved = [], task, trusted } = roots;
  const named = Object.entries({ denied, reserved, task, trusted } as const).flatMap(
    ([kind, paths]) => paths.map((path) => ({ named: path, kind: kind as Root['kind'] })),
  );
  return Promise.all(
    named
      .filter((dir) => isAbsolute(dir.named))
      .map(async (dir) => ({ ...dir, ...(await findRoot(dir, waiting)) })),
  );
}

async function findRoot(
  { named }: Pick<Root, 'named'>,
  waiting: Waiting,
): Promise<Pick<Root, 'real' | 'silent'>> {
  try {
    return { real: await answered(named, (path) => realpath(path), waiting) };
  } catch (error) {
    waiting.signal.throwIfAborted();
    return { real: undefined, silent: errnoOf(error) === 'ETIMEDOUT' };
  }
}

/** The directories by which a path is allowed: none where a denied or a deeper reserved one contains it. */
export function allowing(
  dirs: readonly Root[],
  path: string,
  contains: (dir: Root) => boolean = (dir) => holds(dir, path),
): readonly Root[] {
  const found = dirs.filter(contains);
  if (found.some(({ kind }) => kind === 'denied')) return [];
  // All contain the same path, so the longer one is the deeper one.
  const depth = ({ real, named }: Root): number => (real ?? named).length;
  const reserved = Math.max(0, ...found.filter(({ kind }) => kind === 'reserved').map(depth));
  return found.filter((dir) => dir.kind !== 'reserved' && depth(dir) > reserved);
}

/** As `allowing`, by the path as it is written: for a file that may not exist. */
export function allowingByName(dirs: readonly Root[], path: string): readonly Root[] {
  return allowing(dirs, path, (dir) => isInside(dir.named, path) || holds(dir, path));
}

/** A directory that does not answer allows nothing, but still forbids what has its name. */
function holds({ real, silent, named, kind }: Root, path: string): boolean {
  if (silent === true && isForbidden({ kind })) return isInside(named, path);
  return real !== undefined && isInside(real, path);
}

function isForbidden({ kind }: Pick<Root, 'kind'>): boolean {
  return kind === 'denied' || kind === 'reserved';
}

export function isInside(dir: string, path: string): boolean {
  const inside = relative(dir, path);
  return inside !== '..' && !inside.startsWith('../') && !isAbsolute(inside);
}

/** A directory is given as a whole, so it contains no forbidden one. */
export function checkInside(path: string, found: string, dirs: readonly Root[]): void {
  if (!dirs.some((dir) => isForbidden(dir) && isInside(found, dir.real ?? dir.named))) return;
  const text = `${path} contains directories that are not the task's: name one inside of it`;
  throw new ImageError('refused', text);
}

const ofAnotherTask =
  'is in the directory of another task, which is closed: the tasks of a group share alloc/, let that one write it there';

export function notAllowed(path: string, dirs: readonly Root[], cause?: unknown): ImageError {
  const isIn = (kind: Root['kind']): boolean =>
    dirs.some((dir) => dir.kind === kind && isInside(dir.named, path));
  if (isIn('reserved') && !isIn('task')) {
    return new ImageError('refused', `${path} ${ofAnotherTask}`, { cause });
  }
  const places = dirs
    .filter(({ kind }) => kind === 'task' || kind === 'trusted')
    .map(({ named }) => named)
    .join(', ');
  const text = `${path} is not inside the allowed directories (${places}), or leads out of them`;
  return new ImageError('refused', text, { cause });
}
