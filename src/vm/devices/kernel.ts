import { open } from 'node:fs/promises';
import { type ImageRoots, PlainFile } from '#image';
import { directKernel } from '#qemu';
import type { KernelSpec, Waiting } from '#spec';
import { withVmError } from '../error.ts';
import type { Prepared, Site } from './device.ts';

/** Linux with everything built in has 20 MiB, an initramfs with all modules 200. */
const maxBytes = { kernel: 64 * 1024 ** 2, initrd: 512 * 1024 ** 2 } as const;

/** A kernel that the guest is started from, open. */
export interface CheckedKernel extends Disposable {
  readonly commandLine: string;
  readonly kernel: PlainFile;
  readonly initrd: PlainFile | undefined;
}

/** Opens the files that the job names. Throws VmError naming the option. */
export async function checkKernel(
  { kernel, initrd, commandLine }: KernelSpec,
  roots: ImageRoots,
  waiting: Waiting,
): Promise<CheckedKernel> {
  using opened = new DisposableStack();
  const open = async (name: string, role: keyof typeof maxBytes): Promise<PlainFile> => {
    const limited = { roots, maxBytes: maxBytes[role] };
    return opened.use(
      await withVmError(() => PlainFile.open(name, limited, waiting), `args: -${role}`),
    );
  };
  const files = {
    kernel: await open(kernel, 'kernel'),
    initrd: initrd === undefined ? undefined : await open(initrd, 'initrd'),
  };
  const owned = opened.move();
  return { commandLine, ...files, [Symbol.dispose]: () => owned.dispose() };
}

/**
 * QEMU takes a kernel only from a file that it opens by its name, and as the VM's user. So it gets copies in the VM's
 * directory, which it sees in its bare root.
 */
export async function prepareKernel(
  checked: CheckedKernel | undefined,
  { paths, uid }: Pick<Site, 'paths' | 'uid'>,
  waiting: Waiting,
): Promise<readonly Prepared[]> {
  if (checked === undefined) return [];
  const copy = async (file: PlainFile, path: string): Promise<string> => {
    await using copied = await open(path, 'wx', 0o400);
    await copied.chown(uid, 0);
    await withVmError(() => file.copyTo(copied.fd, waiting), 'args');
    return path;
  };
  const { kernel, initrd, commandLine } = checked;
  const files = {
    kernel: await copy(kernel, paths.kernel),
    ...(initrd && { initrd: await copy(initrd, paths.initrd) }),
  };
  return [
    {
      part: directKernel({ ...files, commandLine }),
      record: { kind: 'emulated', id: 'kernel', model: 'kernel' },
    },
  ];
}
