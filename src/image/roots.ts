import { constants, fstatSync, readlinkSync, type Stats } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { isAbsolute, join, relative, resolve } from 'node:path';
import { closeFd, errnoOf, openBeneath, openPath, pathOnly, reopen, setNonBlocking } from '#host';
import type { Waiting } from '#spec';
import { refuseAddress } from './address.ts';
import { checkWaiting, ImageError, stepSync } from './error.ts';

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

/** A regular file inside the allow-list, open for reading. The caller closes it. */
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
  readonly kind: 'trusted' | 'task' | 'reserved' | 'denied';
}

// O_NONBLOCK: a task that holds a lease on its file must not delay the open.
const readFlags = constants.O_RDONLY | constants.O_NONBLOCK;

/**
 * Opens a file of the allow-list for reading. All checks are made on the file itself before it is opened, because
 * opening has effects on a device; the name is not used again.
 * Links are followed as long as they end inside an allowed directory. Throws ImageError.
 */
export async function openAllowed(
  name: string,
  roots: ImageRoots,
  { signal }: Waiting,
): Promise<AllowedFile> {
  checkWaiting(`opening ${name}`, signal);
  if (name === '' || name.includes('\0')) throw new ImageError('refused', 'no file is named');
  refuseAddress(name);
  const dirs = await findRoots(roots);
  const paths = candidates(name, roots, dirs);
  for (const path of paths) {
    const real = await findReal(path, dirs);
    checkWaiting(`opening ${name}`, signal);
    if (real !== undefined) return openReal(path, real, dirs);
  }
  throw new ImageError('refused', `there is no file ${name}${whereOf(name, paths, roots)}`);
}

/**
 * Where the file may be. Of several paths those remain that are allowed by name, so that a neighbour's directory among
 * them is skipped; if none is, the first one is refused like any other name.
 */
function candidates(name: string, roots: ImageRoots, dirs: readonly Root[]): readonly string[] {
  const paths = isAbsolute(name)
    ? [resolve(name), ...seenAs(resolve(name), roots)]
    : roots.relativeTo.map((dir) => join(dir, name));
  const named = paths.filter((path) => allowingByName(dirs, path).length > 0);
  return paths.length > 1 && named.length > 0 ? named : paths.slice(0, 1);
}

function seenAs(path: string, { seenAs = [] }: ImageRoots): readonly string[] {
  return seenAs
    .filter((seen) => isInside(seen.path, path))
    .map((seen) => join(seen.dir, relative(seen.path, path)));
}

function whereOf(name: string, paths: readonly string[], { relativeTo }: ImageRoots): string {
  if (!isAbsolute(name)) {
    return ` in ${relativeTo.filter((dir) => paths.includes(join(dir, name))).join(', ')}`;
  }
  const elsewhere = paths.filter((path) => path !== resolve(name));
  return elsewhere.length === 0 ? '' : ` (${elsewhere.join(', ')} on the host)`;
}

async function findRoots(roots: ImageRoots): Promise<readonly Root[]> {
  const { denied = [], reserved = [], task, trusted } = roots;
  const named = Object.entries({ denied, reserved, task, trusted } as const).flatMap(
    ([kind, paths]) => paths.map((path) => ({ named: path, kind: kind as Root['kind'] })),
  );
  return Promise.all(
    named
      .filter((dir) => isAbsolute(dir.named))
      .map(async (dir) => ({ ...dir, real: await realpath(dir.named).catch(() => undefined) })),
  );
}

/**
 * The path without links; undefined when there is no such file. What lies outside the allow-list is refused in the
 * same way whether it exists or not, so that a job can't find out which files the host has.
 */
async function findReal(path: string, dirs: readonly Root[]): Promise<string | undefined> {
  try {
    return await realpath(path);
  } catch (cause) {
    const missing = isErrno(cause, 'ENOENT', 'ENOTDIR');
    const around = allowingByName(dirs, path);
    if (!missing || around.length === 0 || around.some((dir) => leavesRoot(dir, path))) {
      // Without the cause, which would reveal whether the file exists.
      throw notAllowed(path, dirs);
    }
    return undefined;
  }
}

/** Whether the path of a missing file follows a link out of the directory. */
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
    // io_uring fails with EAGAIN on a non-blocking descriptor where an ordinary read would wait for the disk.
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
      throw new ImageError('refused', `${path} disappeared while it was being opened`, { cause });
    }
    // A link was planted after the path had been resolved.
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
  return stepSync(`examining ${path}`, () => {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw notRegular(path, kindOf(stats));
    const found = readlinkSync(`/proc/self/fd/${fd}`);
    const holders = allowing(dirs, found);
    if (holders.length === 0) throw notAllowed(path, dirs);
    // The stricter of two nested directories decides, as image_paths may well contain the allocation directories.
    if (stats.nlink !== 1 && holders.some(({ kind }) => kind === 'task')) {
      const text = `${path} has ${stats.nlink} names (hard links): in a directory that tasks write to it may be any file of the host`;
      throw new ImageError('refused', text);
    }
    return { path: found, stats };
  });
}

/** The directories by which a path is allowed: none where a denied or a deeper reserved one contains it. */
function allowing(
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
function allowingByName(dirs: readonly Root[], path: string): readonly Root[] {
  return allowing(dirs, path, (dir) => isInside(dir.named, path) || holds(dir, path));
}

function holds({ real }: Root, path: string): boolean {
  return real !== undefined && isInside(real, path);
}

function isInside(dir: string, path: string): boolean {
  const inside = relative(dir, path);
  return inside !== '..' && !inside.startsWith('../') && !isAbsolute(inside);
}

function isErrno(error: unknown, ...names: readonly string[]): boolean {
  return names.includes(errnoOf(error) ?? '');
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a directory';
  if (stats.isFIFO()) return 'a FIFO';
  if (stats.isSocket()) return 'a socket';
  if (stats.isBlockDevice() || stats.isCharacterDevice()) return 'a device';
  return 'a special file';
}

function notRegular(path: string, kind: string): ImageError {
  // An artifact is unpacked, or put under the name that its address ends with, into a directory unless it sets otherwise.
  const remedy =
    kind === 'a directory'
      ? ': name the file in it, or write mode = "file" in the artifact that fetched it'
      : '';
  return new ImageError('refused', `${path} is ${kind}, not a regular file${remedy}`);
}

function notAllowed(path: string, dirs: readonly Root[], cause?: unknown): ImageError {
  const places = dirs
    .filter(({ kind }) => kind === 'task' || kind === 'trusted')
    .map(({ named }) => named)
    .join(', ');
  const text = `${path} is not inside the allowed directories (${places}), or leads out of them`;
  return new ImageError('refused', text, { cause });
}
