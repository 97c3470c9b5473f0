import { constants, readlinkSync, type Stats } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { isAbsolute, join, relative, resolve } from 'node:path';
import {
  answered,
  closeFd,
  errnoOf,
  openAside,
  openBeneathAside,
  pathOnly,
  reopenAside,
  setNonBlocking,
  statAside,
} from '#host';
import type { Waiting } from '#spec';
import { refuseAddress } from './address.ts';
import {
  allowing,
  allowingByName,
  checkInside,
  findRoots,
  type ImageRoots,
  isInside,
  notAllowed,
  type Root,
} from './allow-list.ts';
import { asImageError, checkWaiting, ImageError, step } from './error.ts';
import { checkKind } from './file-kind.ts';

/** A regular file or a directory inside the allow-list, open for reading. The caller closes it. */
export interface AllowedFile {
  readonly fd: number;
  /** The file's real path when it was opened. */
  readonly path: string;
  readonly stats: Stats;
  /** It is in a directory that tasks write to. */
  readonly ofTask: boolean;
}

// O_NONBLOCK: a task that holds a lease on its file must not delay the open.
const readFlags = constants.O_RDONLY | constants.O_NONBLOCK;

/**
 * Opens a file of the allow-list for reading. All checks are made on the file itself before it is opened, because
 * opening has effects on a device; the name is not used again.
 * Links are followed as long as they end inside an allowed directory. Throws ImageError.
 */
export function openAllowed(
  name: string,
  roots: ImageRoots,
  waiting: Waiting,
): Promise<AllowedFile> {
  return openNamed(name, { roots, wanted: 'file' }, waiting);
}

/** As `openAllowed`, for a directory in which nothing is forbidden. */
export function openAllowedDirectory(
  name: string,
  roots: ImageRoots,
  waiting: Waiting,
): Promise<AllowedFile> {
  return openNamed(name, { roots, wanted: 'directory' }, waiting);
}

async function openNamed(
  name: string,
  { roots, wanted }: { readonly roots: ImageRoots; readonly wanted: 'file' | 'directory' },
  waiting: Waiting,
): Promise<AllowedFile> {
  const { signal } = waiting;
  checkWaiting(`opening ${name}`, signal);
  if (name === '' || name.includes('\0')) throw new ImageError('refused', 'no file is named');
  refuseAddress(name);
  const dirs = await findRoots(roots, waiting);
  const paths = candidates(name, roots, dirs);
  for (const path of paths) {
    const real = await findReal(path, dirs, waiting);
    checkWaiting(`opening ${name}`, signal);
    if (real !== undefined) return await openReal(path, { real, wanted }, dirs);
  }
  throw new ImageError('refused', `there is no ${wanted} ${name}${whereOf(name, paths, roots)}`);
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

/**
 * The path without links; undefined when there is no such file. What lies outside the allow-list is refused in the
 * same way whether it exists or not, so that a job can't find out which files the host has.
 */
async function findReal(
  path: string,
  dirs: readonly Root[],
  waiting: Waiting,
): Promise<string | undefined> {
  try {
    return await answered(path, (named) => realpath(named), waiting);
  } catch (cause) {
    waiting.signal.throwIfAborted();
    if (isErrno(cause, 'ETIMEDOUT')) throw asImageError(`opening ${path}`, cause);
    const missing = isErrno(cause, 'ENOENT', 'ENOTDIR');
    const around = allowingByName(dirs, path);
    const leaving = await Promise.all(around.map((dir) => leavesRoot(dir, path)));
    if (!missing || around.length === 0 || leaving.includes(true)) {
      // Without the cause, which would reveal whether the file exists.
      throw notAllowed(path, dirs);
    }
    return undefined;
  }
}

/** Whether the path of a missing file follows a link out of the directory. */
async function leavesRoot({ named, real }: Root, path: string): Promise<boolean> {
  if (real === undefined) return false;
  try {
    closeFd(await findInRoot(real, relative(isInside(named, path) ? named : real, path)));
    return false;
  } catch (error) {
    return isErrno(error, 'EXDEV', 'ELOOP');
  }
}

async function openReal(
  path: string,
  { real, wanted }: { readonly real: string; readonly wanted: 'file' | 'directory' },
  dirs: readonly Root[],
): Promise<AllowedFile> {
  const [root] = allowing(dirs, real).flatMap((dir) => dir.real ?? []);
  if (root === undefined) throw notAllowed(path, dirs);
  const found = await find(path, relative(root, real), root, dirs);
  try {
    const checked = await check(path, { fd: found, wanted }, dirs);
    const fd = await step(`opening ${path}`, () => reopenAside(found, readFlags));
    // io_uring fails with EAGAIN on a non-blocking descriptor where an ordinary read would wait for the disk.
    setNonBlocking(fd, false);
    return { fd, ...checked };
  } finally {
    closeFd(found);
  }
}

async function find(
  path: string,
  inside: string,
  root: string,
  dirs: readonly Root[],
): Promise<number> {
  try {
    return await findInRoot(root, inside);
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

async function findInRoot(root: string, inside: string): Promise<number> {
  const rootFd = await openAside(root, pathOnly | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    return await openBeneathAside(rootFd, inside === '' ? '.' : inside, pathOnly);
  } finally {
    closeFd(rootFd);
  }
}

async function check(
  path: string,
  { fd, wanted }: { readonly fd: number; readonly wanted: 'file' | 'directory' },
  dirs: readonly Root[],
): Promise<Omit<AllowedFile, 'fd'>> {
  return await step(`examining ${path}`, async () => {
    const stats = await statAside(fd);
    checkKind(path, stats, wanted);
    const found = readlinkSync(`/proc/self/fd/${fd}`);
    const holders = allowing(dirs, found);
    if (holders.length === 0) throw notAllowed(path, dirs);
    // The stricter of two nested directories decides, as image_paths may well contain the allocation directories.
    const ofTask = holders.some(({ kind }) => kind === 'task');
    if (stats.isDirectory()) checkInside(path, found, dirs);
    else if (stats.nlink !== 1 && ofTask) {
      const text = `${path} has ${stats.nlink} names (hard links): in a directory that tasks write to it may be any file of the host`;
      throw new ImageError('refused', text);
    }
    return { path: found, stats, ofTask };
  });
}

function isErrno(error: unknown, ...names: readonly string[]): boolean {
  return names.includes(errnoOf(error) ?? '');
}
