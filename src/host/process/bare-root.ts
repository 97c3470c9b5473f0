import {
  constants,
  lstatSync,
  mkdirSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { closeFd, openPath } from '../files/descriptor.ts';
import {
  bindMount,
  bindTree,
  makePrivate,
  mountTmpfs,
  sealMounts,
  unmount,
  unsealMount,
} from '../files/mount.ts';
import { must } from '../native/libc.ts';
import { cloneNew, elsewhere } from './elsewhere.ts';

/** Programs and their libraries, and what they read as data (firmware, ROMs, locales). */
const directories = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64'];
/** The loader's cache of libraries outside of its own directories; devices that programs open by name. */
const files = ['/etc/ld.so.cache', '/dev/null', '/dev/zero', '/dev/urandom', '/dev/kvm'];

const cloneFs = 0x200;
/** The new root is mounted on it, in the new namespace only, until it becomes the root. */
const scaffold = '/proc';
const sysPivotRoot = process.arch === 'arm64' ? 41 : 155;

interface BareRoot {
  /** Of its namespace of mounts. */
  readonly fd: number;
  readonly shows: string;
}

/** A file or a directory of the host that one program is to see in its bare root. */
export interface BareFile {
  /** Absolute, on the host. */
  readonly path: string;
  /** Path in the bare root, from its top. */
  readonly name: string;
  readonly writable: boolean;
}

let current: BareRoot | undefined;

/**
 * Runs `run` with the main thread in a namespace of mounts that contains only programs, libraries and a few devices,
 * read-only: no /home, /etc, /run, /tmp, /proc. What `run` spawns stays there. Otherwise as `elsewhere`. The namespace is
 * made once, and again when a file that it shows has been replaced. Throws HostError.
 */
export function inBareRoot<T>(run: () => T): T {
  return inRoot(upToDate().fd, run);
}

/** The same, with these files at its top, in a namespace that nothing else uses. */
export function inBareRootWith<T>(extra: readonly BareFile[], run: () => T): T {
  const fd = make(extra);
  try {
    return inRoot(fd, run);
  } finally {
    closeFd(fd);
  }
}

function inRoot<T>(fd: number, run: () => T): T {
  return elsewhere(
    ['mnt'],
    () => {
      leaveOtherThreads();
      must('entering the bare root', 'setns', fd, cloneNew.mnt);
    },
    run,
  );
}

/** Threads share root and working directory until one of them unshares its own. */
function leaveOtherThreads(): void {
  must('separating from the root of other threads', 'unshare', cloneFs);
}

/** An upgrade replaces the loader's cache; a kernel module that is loaded later adds its device. */
function upToDate(): BareRoot {
  const shows = [...directories, ...files].map(identityOf).join(' ');
  if (current?.shows === shows) return current;
  const fd = make([]);
  if (current !== undefined) closeFd(current.fd);
  current = { fd, shows };
  return current;
}

function identityOf(path: string): string {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat === undefined ? '-' : `${stat.dev}:${stat.ino}:${stat.rdev}`;
}

function make(extra: readonly BareFile[]): number {
  return elsewhere(
    ['mnt'],
    () => {
      leaveOtherThreads();
      // Changes nothing. The way back needs this right, which leaving does not.
      must('testing the right to change the root', 'chroot', '/');
      must('making a namespace of mounts', 'unshare', cloneNew.mnt);
    },
    () => {
      const fd = openPath('/proc/thread-self/ns/mnt', constants.O_RDONLY);
      try {
        build(extra);
        return fd;
      } catch (error) {
        closeFd(fd);
        throw error;
      }
    },
  );
}

function build(extra: readonly BareFile[]): void {
  // Otherwise the mounts made here would appear in the host's namespace as well.
  makePrivate('/');
  mountTmpfs(scaffold, { sizeBytes: 64 * 1024, mode: 0o755 });
  for (const path of directories) show(path, bindTree);
  for (const path of files) show(path, bindMount);
  for (const { path, name } of extra) showAs(path, `${scaffold}/${name}`);
  must('entering the new root', 'chdir', scaffold);
  // The old root is mounted on top of the new one, and unmounted from there.
  must('changing the root', 'syscallPaths', sysPivotRoot, '.', '.');
  unmount('.');
  sealMounts('/');
  for (const { name, writable } of extra) if (writable) unsealMount(`/${name}`);
}

function show(path: string, bind: (source: string, target: string) => void): void {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  const there = `${scaffold}${path}`;
  if (stat.isSymbolicLink()) symlinkSync(readlinkSync(path), there);
  else showAs(path, there, bind);
}

function showAs(path: string, there: string, bind = bindMount): void {
  mkdirSync(dirname(there), { recursive: true, mode: 0o755 });
  if (statSync(path).isDirectory()) mkdirSync(there, { mode: 0o755 });
  else writeFileSync(there, '', { mode: 0o444 });
  bind(path, there);
}
