import { QemuError } from './error.ts';

export type Json = Readonly<Record<string, unknown>>;

/**
 * One option of QEMU's command line, kept as data until it is rendered. The JSON is what QMP expects as arguments of
 * `blockdev-add`, `device_add` and `object-add`, so one description serves the start and a hot-plug.
 */
export type QemuOption =
  | { readonly option: 'blockdev' | 'device' | 'object'; readonly json: Json }
  | { readonly option: string; readonly text: string };

/** A file that QEMU receives as an open descriptor, under a role that no other file of the VM has. */
export interface PartFile {
  readonly role: string;
  /**
   * `fd`: named by its number. A set: opened by QEMU through `/dev/fdset`; files of one set are the same file opened
   * in different modes, of which QEMU uses the one that fits.
   */
  readonly as: 'fd' | { readonly set: string };
}

/** Where a part's files are inside QEMU: inherited at the start, or sent over QMP at a hot-plug. */
export interface Places {
  /** The descriptor's number, or its name. */
  fd(role: string): number | string;
  /** Path of the file set that the role is in. */
  path(role: string): string;
}

/** One thing that a VM has, as far as QEMU is concerned. */
export interface Part {
  /** Unique in the VM, e.g. `disk`, `net0`: prefix of the ids and block nodes of the part. */
  readonly id: string;
  readonly files: readonly PartFile[];
  /** Another process reads guest memory (vhost-user), so that it must be a shared mapping. */
  readonly sharedMemory?: true;
  /** Threads that the kernel adds to QEMU for it. */
  readonly threads?: number;
  /** QEMU itself connects to other hosts, or opens files of the host by their names. */
  readonly network?: true;
  readonly hostFiles?: true;
  /** Absolute paths of files that QEMU opens by their names as it starts, and not later. */
  readonly reads?: readonly string[];
  options(at: Places): readonly QemuOption[];
}

/** Text inside a comma-separated option: QEMU reads `,,` as one comma. Throws QemuError for a NUL. */
export function optionText(text: string): string {
  if (text.includes('\0')) {
    throw new QemuError('unsupported', 'text with a NUL byte cannot be passed to QEMU');
  }
  return text.replaceAll(',', ',,');
}

export function blockdev(json: Json): QemuOption {
  return { option: 'blockdev', json };
}

export function device(json: Json): QemuOption {
  return { option: 'device', json };
}

export function object(json: Json): QemuOption {
  return { option: 'object', json };
}

export function option(name: string, text: string): QemuOption {
  return { option: name, text };
}
