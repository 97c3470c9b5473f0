import { constants, fstatSync, readlinkSync, type Stats } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { isAbsolute, join, relative, resolve } from 'node:path';
import {
  closeFd,
  HostError,
  openBeneath,
  openPath,
  pathOnly,
  reopen,
  setNonBlocking,
  type Waiting,
} from '#host';
import { checkWaiting, ImageError, stepSync } from './error.ts';

/** The allow-list: absolute directories, of which some may not exist. */
export interface ImageRoots {
  /** Directories that only the operator writes: `image_paths`, `data_dir`. */
  readonly trusted: readonly string[];
  /** Directories that tasks write (allocation and task directory): there a file with a second name is refused. */
  readonly task: readonly string[];
  /** Directories inside the others that are allowed to nobody: where other VMs' disks and seeds lie. */
  readonly denied?: readonly string[];
  /** Where relative names are looked up, in this order. Being here allows nothing. */
  readonly relativeTo: readonly string[];
}

/** A regular file inside the allow-list, open for reading. Whoever gets it closes it. */
export interface AllowedFile {
  readonly fd: number;
  /** The file's real path when it was opened. */
  readonly path: string;
  readonly stats: Stats;
}

/** A directory of the allow-list: as it was named, and its path without links where it exists. */
interface Root {
  readonly named: string;
  readonly real: string | undefined;
  readonly kind: 'trusted' | 'task' | 'denied';
}

// O_NONBLOCK: a task that holds a lease on its file must not hold up the open.
const readFlags = constants.O_RDONLY | constants.O_NONBLOCK;

/**
 * Opens a file of the allow-list for reading. All checks are made on the very file before it is opened, for a device
 * would act on that; the name is not used again.
 * Links are followed as long as they end inside an allowed directory. Throws ImageError `not-found`, `not-allowed`,
 * `not-regular` or `io`.
 */
export async function openAllowed(
  name: string,
  roots: ImageRoots,
  { signal }: Waiting,
): Promise<AllowedFile> {
  checkWaiting(`opening ${name}`, signal);
  if (name === '' || name.includes('\0')) throw new ImageError('not-found', 'no file is named');
  const dirs = await findRoots(roots);
  for (const path of candidates(name, roots)) {
    const real = await findReal(path, dirs);
    checkWaiting(`opening ${name}`, signal);
    if (real !== undefined) return openReal(path, real, dirs);
  }
  const places = roots.relativeTo.join(', ');
  const where = isAbsolute(name) ? '' : ` in ${places}`;
  throw new ImageError('not-found', `there is no file ${name}${where}`);
}

function candidates(name: string, roots: ImageRoots): readonly string[] {
  return isAbsolute(name) ? [resolve(name)] : roots.relativeTo.map((dir) => join(dir, name));
}

async function findRoots({ trusted, task, denied = [] }: ImageRoots): Promise<readonly Root[]> {
  const named = [
    ...denied.map((path) => ({ named: path, kind: 'denied' as const })),
    ...task.map((path) => ({ named: path, kind: 'task' as const })),
    ...trusted.map((path) => ({ named: path, kind: 'trusted' as const })),
  ];
  return Promise.all(
    named
      .filter((dir) => isAbsolute(dir.named))
      .map(async (dir) => ({ ...dir, real: await realpath(dir.named).catch(() => undefined) })),
  );
}

/**
 * The path without links; undefined when there is no such file. What lies outside the allow-list is `not-allowed`
 * whether it exists or not, so that nobody can ask us which files the host has.
 */
async function findReal(path: string, dirs: readonly Root[]): Promise<string | undefined> {
  try {
    return await realpath(path);
  } catch (cause) {
    const missing = isErrno(cause, 'ENOENT', 'ENOTDIR');
    const around = allowing(dirs, path, (dir) => isInside(dir.named, path) || holds(dir, path));
    if (!missing || around.length === 0 || around.some((dir) => leavesRoot(dir, path))) {
      // Without the cause, which would tell the same.
      throw notAllowed(path, dirs);
    }
    return undefined;
  }
}

/** Whether the way to a missing file goes over a link out of the directory. */
function leavesRoot({ named, real }: Root, path: string): boolean {
  if (real === undefined) return false;
  try {
    closeFd(findInRoot(real, relative(isInside(named, path) ? named : real, path)));
    return false;
  } catch (error) {
    return isErrno(error, 'EXDEV', 'ELOOP');
  }
}

function openReal(path: string, real: string, dirs: readonly Root[]): AllowedFile {
  const [root] = allowing(dirs, real).flatMap((dir) => dir.real ?? []);
  if (root === undefined) throw notAllowed(path, dirs);
  const found = find(path, relative(root, real), root, dirs);
  try {
    const checked = check(path, found, dirs);
    const fd = stepSync(`opening ${path}`, () => reopen(found, readFlags));
    // io_uring answers EAGAIN for a non-blocking descriptor where another read would wait for the disk.
    setNonBlocking(fd, false);
    return { fd, ...checked };
  } finally {
    closeFd(found);
  }
}

function find(path: string, inside: string, root: string, dirs: readonly Root[]): number {
  try {
    return findInRoot(root, inside);
  } catch (cause) {
    if (isErrno(cause, 'ENOENT', 'ENOTDIR')) {
      throw new ImageError('not-found', `${path} went away while it was being opened`, { cause });
    }
    // A link was put there after the path had been resolved.
    if (isErrno(cause, 'EXDEV', 'ELOOP')) throw notAllowed(path, dirs, cause);
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ImageError('io', `${path} can't be opened: ${reason}`, { cause });
  }
}

function findInRoot(root: string, inside: string): number {
  const rootFd = openPath(root, pathOnly | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    return openBeneath(rootFd, inside === '' ? '.' : inside, pathOnly);
  } finally {
    closeFd(rootFd);
  }
}

function check(
  path: string,
  fd: number,
  dirs: readonly Root[],
): { readonly path: string; readonly stats: Stats } {
  return stepSync(`looking at ${path}`, () => {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw notRegular(path, kindOf(stats));
    const found = readlinkSync(`/proc/self/fd/${fd}`);
    const holders = allowing(dirs, found);
    if (holders.length === 0) throw notAllowed(path, dirs);
    // The stricter of two nested directories decides, as image_paths may well contain the allocation directories.
    if (stats.nlink !== 1 && holders.some(({ kind }) => kind === 'task')) {
      const text = `${path} has ${stats.nlink} names (hard links): in a directory that tasks write to it may be any file of the host`;
      throw new ImageError('not-allowed', text);
    }
    return { path: found, stats };
  });
}

/** The directories on the ground of which a path is allowed: none where a denied one is around it. */
function allowing(
  dirs: readonly Root[],
  path: string,
  around: (dir: Root) => boolean = (dir) => holds(dir, path),
): readonly Root[] {
  const found = dirs.filter(around);
  return found.some(({ kind }) => kind === 'denied') ? [] : found;
}

function holds({ real }: Root, path: string): boolean {
  return real !== undefined && isInside(real, path);
}

function isInside(dir: string, path: string): boolean {
  const inside = relative(dir, path);
  return inside !== '..' && !inside.startsWith('../') && !isAbsolute(inside);
}

function isErrno(error: unknown, ...names: readonly string[]): boolean {
  if (error instanceof HostError) return names.includes(error.errno ?? '');
  return error instanceof Error && 'code' in error && names.includes(String(error.code));
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a directory';
  if (stats.isFIFO()) return 'a FIFO';
  if (stats.isSocket()) return 'a socket';
  if (stats.isBlockDevice() || stats.isCharacterDevice()) return 'a device';
  return 'a special file';
}

function notRegular(path: string, kind: string): ImageError {
  return new ImageError('not-regular', `${path} is ${kind}, not a regular file`);
}

function notAllowed(path: string, dirs: readonly Root[], cause?: unknown): ImageError {
  const places = dirs
    .filter(({ kind }) => kind !== 'denied')
    .map(({ named }) => named)
    .join(', ');
  const text = `${path} is not inside the allowed directories (${places}), or leads out of them`;
  return new ImageError('not-allowed', text, { cause });
}
