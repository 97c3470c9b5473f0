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

/** An empty file system in memory: nosuid, nodev, noexec. `mode` is that of its root. Throws HostError 'libc'. */
export function mountTmpfs(
  target: string,
  options: { readonly sizeBytes: number; readonly mode: number },
): void {
  const data = `size=${options.sizeBytes},mode=${options.mode.toString(8)}`;
  const flags = noSetuid | noDevices | noExec;
  must(`mounting a tmpfs on ${target}`, 'mount', 'tmpfs', target, 'tmpfs', flags, data);
}

/** Shows the directory `source` at `target`: read-only, nosuid, nodev, noexec. Throws HostError 'libc'. */
export function bindMountReadOnly(source: string, target: string): void {
  must(`binding ${source} to ${target}`, 'mount', source, target, null, bind, null);
  // A bind takes the flags of its source; only a remount of the bind itself can add some.
  const flags = bind | remount | readOnly | noSetuid | noDevices | noExec;
  const { errno } = attempt('mount', null, target, null, flags, null);
  if (errno === undefined) return;
  unmount(target);
  throw libcError(`making the mount on ${target} read-only`, errno);
}

/** Takes away what is mounted on `target`, at once even when in use. Fine when nothing is. Throws HostError 'libc'. */
export function unmount(target: string): void {
  const { errno } = attempt('umount2', target, unmountDetach | unmountNoFollow);
  if (errno !== undefined && !nothingThere.has(errno)) {
    throw libcError(`unmounting ${target}`, errno);
  }
}
