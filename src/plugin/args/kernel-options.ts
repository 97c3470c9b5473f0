import { type OptionKind, Refusal } from './wish.ts';

/** What Linux takes on the usual architectures is less. */
const maxCommandLine = 4096;

/** A kernel that the guest is started from, past its boot loader. */
export const kernelOptions: readonly OptionKind[] = [
  {
    names: ['kernel'],
    value: 'local/vmlinuz',
    becomes:
      'The guest is started from this kernel and not from its disk: a file by the rules of `image`, of at most 64 MiB, as it is when the task starts. QEMU reads a copy.',
    read: (file) => [{ kind: 'kernel', file: checkFile(file) }],
  },
  {
    names: ['initrd'],
    value: 'local/initrd.img',
    becomes: 'The initial file system of `-kernel`, by the same rules, of at most 512 MiB.',
    read: (file) => [{ kind: 'initrd', file: checkFile(file) }],
  },
  {
    names: ['append'],
    value: 'console=ttyS0 root=/dev/vda1',
    becomes:
      'The command line of `-kernel`, at most 4096 characters, as one argument of QEMU. Users of the host can see it.',
    read: (text) => [{ kind: 'append', text: checkText(text) }],
  },
];

function checkFile(file: string): string {
  if (file === '') throw new Refusal('has no file');
  return file;
}

function checkText(text: string): string {
  if (text.length > maxCommandLine) {
    throw new Refusal(`has ${text.length} characters, the maximum is ${maxCommandLine}`);
  }
  if (text.includes('\0')) throw new Refusal('contains a NUL character');
  return text;
}
