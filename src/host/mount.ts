import { attempt, libcError, must } from './libc.ts';

const readOnly = 0x01;
const noSetuid = 0x02;
const noDevices = 0x04;
const noExec = 0x08;
const remount = 0x20;
const bind = 0x1000;
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

/** Takes away what is mounted on `target`, at once even when in use. Fine when nothing is. Throws HostError. */
export function unmount(target: string): void {
  const { errno } = attempt('umount2', target, unmountDetach | unmountNoFollow);
  if (errno !== undefined && !nothingThere.has(errno)) {
    throw libcError(`unmounting ${target}`, errno);
  }
}
