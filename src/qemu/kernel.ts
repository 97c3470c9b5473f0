import { option, type Part } from './part.ts';

/** A kernel that QEMU loads itself, from files that it reads as it starts. */
export function directKernel({
  kernel,
  initrd,
  commandLine,
}: {
  readonly kernel: string;
  readonly initrd?: string;
  readonly commandLine: string;
}): Part {
  return {
    id: 'kernel',
    files: [],
    reads: [kernel, ...(initrd === undefined ? [] : [initrd])],
    // Each is one argument, which QEMU takes as it is.
    options: () => [
      option('kernel', kernel),
      ...(initrd === undefined ? [] : [option('initrd', initrd)]),
      ...(commandLine === '' ? [] : [option('append', commandLine)]),
    ],
  };
}
