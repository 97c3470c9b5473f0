import { attempt, libcError, must } from './libc.ts';

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

/** What umount2 answers when nothing is mounted there. */
const nothingThere = new Set(['EINVAL', 'ENOENT', 'ENOTDIR']);

export interface TmpfsOptions {
  readonly sizeBytes: number;
  /** Of its root. */
  readonly mode: number;
  /** Directories, sockets and the root count as well. No bound but the kernel's when left out. */
  readonly maxFiles?: number;
}

/**
 * An empty file system in memory: nosuid, nodev, noexec, and never swapped out where the kernel can promise that (Linux
 * 6.4). Throws HostError.
 */
export function mountTmpfs(target: string, { sizeBytes, mode, maxFiles }: TmpfsOptions): void {
  const files = maxFiles === undefined ? '' : `,nr_inodes=${maxFiles}`;
  const data = `size=${sizeBytes},mode=${mode.toString(8)}${files}`;
  const mount = ['mount', 'tmpfs', target, 'tmpfs', noSetuid | noDevices | noExec] as const;
  const { errno } = attempt(...mount, `${data},noswap`);
  // An option that it does not know, or that it does not take in a user namespace.
  if (errno === 'EINVAL' || errno === 'EPERM')
    must(`mounting a tmpfs on ${target}`, ...mount, data);
  else if (errno !== undefined) throw libcError(`mounting a tmpfs on ${target}`, errno);
}

/** Shows the directory `source` at `target`: read-only, nosuid, nodev, noexec. Throws HostError. */
export function bindMountReadOnly(source: string, target: string): void {
  must(`binding ${source} to ${target}`, 'mount', source, target, null, bind, null);
  // A bind takes the flags of its source; only a remount of the bind itself can add some.
  const flags = bind | remount | readOnly | noSetuid | noDevices | noExec;
  const { errno } = attempt('mount', null, target, null, flags, null);
  if (errno === undefined) return;
  unmount(target);
  throw libcError(`making the mount on ${target} read-only`, errno);
}

/**
 * Takes away what is mounted on `target`, at once even when in use; of several mounts the uppermost one. Whether there
 * was one. Throws HostError.
 */
export function unmount(target: string): boolean {
  const { errno } = attempt('umount2', target, unmountDetach | unmountNoFollow);
  if (errno === undefined) return true;
  if (nothingThere.has(errno)) return false;
  throw libcError(`unmounting ${target}`, errno);
}

/** Keeps what is mounted on `target` and below it from now on to this namespace. Throws HostError. */
export function makePrivate(target: string): void {
  must(
    `keeping the mounts of ${target} apart`,
    'mount',
    null,
    target,
    null,
    recursive | asPrivate,
    null,
  );
}

/** Shows the file `source` at `target` as it is. Throws HostError. */
export function bindMount(source: string, target: string): void {
  must(`binding ${source} to ${target}`, 'mount', source, target, null, bind, null);
}

/** Shows the directory `source` at `target` with all that is mounted below it, as it is. Throws HostError. */
export function bindTree(source: string, target: string): void {
  must(`binding ${source} to ${target}`, 'mount', source, target, null, bind | recursive, null);
}

/** Makes the mount `target` and all below it read-only and nosuid (Linux 5.12). Throws HostError. */
export function sealMounts(target: string): void {
  const attributes = Buffer.alloc(32); // struct mount_attr: to set, to clear, propagation, user namespace
  attributes.writeBigUInt64LE(BigInt(readOnly | noSetuid), 0);
  const args = [
    sysMountSetattr,
    atFdCwd,
    target,
    atRecursive,
    attributes,
    attributes.length,
  ] as const;
  must(`making the mounts of ${target} read-only`, 'syscallMountSetattr', ...args);
}
