import { attempt, libcError, must } from '../native/libc.ts';

const readOnly = 0x01;
const noSetuid = 0x02;
const noDevices = 0x04;
const noExec = 0x08;
const remount = 0x20;
const bind = 0x1000;
const recursive = 0x4000;
const asPrivate = 0x40000;
const sysMountSetattr = 442;
const atFdCwd = -100;
const atRecursive = 0x8000;
const unmountDetach = 2;
const unmountNoFollow = 8;

/** The errors of umount2 when nothing is mounted there. */
const notMounted = new Set(['EINVAL', 'ENOENT', 'ENOTDIR']);

export interface TmpfsOptions {
  readonly sizeBytes: number;
  /** Mode of its root directory. */
  readonly mode: number;
  /** Directories, sockets and the root count as well. Without it only the kernel's limit applies. */
  readonly maxFiles?: number;
}

/**
 * Mounts an empty file system in memory: nosuid, nodev, noexec, and never swapped out where the kernel supports that
 * (Linux 6.4). Throws HostError.
 */
export function mountTmpfs(target: string, { sizeBytes, mode, maxFiles }: TmpfsOptions): void {
  const files = maxFiles === undefined ? '' : `,nr_inodes=${maxFiles}`;
  const data = `size=${sizeBytes},mode=${mode.toString(8)}${files}`;
  const mount = ['mount', 'tmpfs', target, 'tmpfs', noSetuid | noDevices | noExec] as const;
  const { errno } = attempt(...mount, `${data},noswap`);
  // The kernel does not know the option, or refuses it in a user namespace.
  if (errno === 'EINVAL' || errno === 'EPERM')
    must(`mounting a tmpfs on ${target}`, ...mount, data);
  else if (errno !== undefined) throw libcError(`mounting a tmpfs on ${target}`, errno);
}

/** Mounts the directory `source` at `target`: nosuid, nodev, noexec, and read-only unless `writable`. Throws HostError. */
export function bindDirectory(
  source: string,
  target: string,
  { writable }: { readonly writable: boolean },
): void {
  must(`binding ${source} to ${target}`, 'mount', source, target, null, bind, null);
  // A bind takes the flags of its source; only a remount of the bind itself can add some.
  const access = writable ? 0 : readOnly;
  const flags = bind | remount | access | noSetuid | noDevices | noExec;
  const { errno } = attempt('mount', null, target, null, flags, null);
  if (errno === undefined) return;
  unmount(target);
  throw libcError(`restricting the mount on ${target}`, errno);
}

/**
 * Unmounts `target`, at once even when in use; of several mounts the uppermost one. Returns whether there was one.
 * Throws HostError.
 */
export function unmount(target: string): boolean {
  const { errno } = attempt('umount2', target, unmountDetach | unmountNoFollow);
  if (errno === undefined) return true;
  if (notMounted.has(errno)) return false;
  throw libcError(`unmounting ${target}`, errno);
}

/** Mounts made on and below `target` from now on stay in this namespace. Throws HostError. */
export function makePrivate(target: string): void {
  must(
    `making the mounts of ${target} private`,
    'mount',
    null,
    target,
    null,
    recursive | asPrivate,
    null,
  );
}

/** Mounts the file `source` at `target`, with the flags of its source. Throws HostError. */
export function bindMount(source: string, target: string): void {
  must(`binding ${source} to ${target}`, 'mount', source, target, null, bind, null);
}

/** Mounts the directory `source` at `target` with all mounts below it, with the flags of their sources. Throws HostError. */
export function bindTree(source: string, target: string): void {
  must(`binding ${source} to ${target}`, 'mount', source, target, null, bind | recursive, null);
}

/** Makes the mount `target` and all below it read-only and nosuid (Linux 5.12). Throws HostError. */
export function sealMounts(target: string): void {
  const change = { set: readOnly | noSetuid, clear: 0, flags: atRecursive };
  setAttributes(`making the mounts of ${target} read-only`, target, change);
}

/** Makes the one mount `target` writable. Throws HostError. */
export function unsealMount(target: string): void {
  setAttributes(`making ${target} writable`, target, { set: 0, clear: readOnly, flags: 0 });
}

function setAttributes(
  what: string,
  target: string,
  { set, clear, flags }: { readonly set: number; readonly clear: number; readonly flags: number },
): void {
  const attributes = Buffer.alloc(32); // struct mount_attr: to set, to clear, propagation, user namespace
  attributes.writeBigUInt64LE(BigInt(set), 0);
  attributes.writeBigUInt64LE(BigInt(clear), 8);
  const args = [sysMountSetattr, atFdCwd, target, flags, attributes, attributes.length] as const;
  must(what, 'syscallMountSetattr', ...args);
}
