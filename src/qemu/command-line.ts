import type { Part, Places, QemuOption } from './part.ts';
import { type Platform, platformOptions } from './platform.ts';

/** How QEMU is started: everything that follows from the platform and the parts. */
export interface CommandLine {
  /** The program's path excluded. */
  readonly argv: readonly string[];
  /** Roles of the files that QEMU inherits; the first is number 3. */
  readonly files: readonly string[];
  /** Block nodes that QEMU may have open. Any other comes from a file name in an image's header. */
  readonly nodes: ReadonlySet<string>;
  /** Threads that the kernel adds to QEMU. */
  readonly threads: number;
  /** Whether QEMU needs the host's network, and the host's files. */
  readonly network: boolean;
  readonly hostFiles: boolean;
  /** Paths of files that QEMU opens by their names as it starts. */
  readonly reads: readonly string[];
}

/** 0 to 2 are the journal's input and output and QEMU's own messages. */
const firstFd = 3;

/** QEMU's arguments. Parts keep their order, which determines their slots on the PCI bus. */
export function commandLine(platform: Platform, parts: readonly Part[]): CommandLine {
  checkUnique(parts.map(({ id }) => id));
  const files = parts.flatMap((part) => part.files);
  const roles = files.map(({ role }) => role);
  checkUnique(roles);
  const sets = [...new Set(files.flatMap(({ as }) => (as === 'fd' ? [] : [as.set])))];
  const setNumber = (set: string): number => sets.indexOf(set) + 1;
  const fd = (role: string): number => firstFd + indexOf(roles, role);
  const places: Places = {
    fd,
    path: (role) => {
      const as = files[indexOf(roles, role)]?.as;
      if (as === undefined || as === 'fd') throw new Error(`file ${role} is in no set`);
      return `/dev/fdset/${setNumber(as.set)}`;
    },
  };
  const addFds = files.flatMap(({ role, as }): QemuOption[] =>
    as === 'fd'
      ? []
      : [{ option: 'add-fd', text: `fd=${fd(role)},set=${setNumber(as.set)},opaque=${role}` }],
  );
  const sharedMemory = parts.some((part) => part.sharedMemory === true);
  const own = parts.flatMap((part) => part.options(places));
  return {
    argv: [...platformOptions(platform, { sharedMemory }), ...addFds, ...own].flatMap(render),
    files: roles,
    nodes: new Set(own.flatMap(nodeName)),
    threads: parts.reduce((sum, { threads = 0 }) => sum + threads, 0),
    network: parts.some((part) => part.network === true),
    hostFiles: parts.some((part) => part.hostFiles === true),
    reads: parts.flatMap((part) => part.reads ?? []),
  };
}

function render(option: QemuOption): readonly string[] {
  if ('json' in option) return [`-${option.option}`, JSON.stringify(option.json)];
  return option.text === '' ? [`-${option.option}`] : [`-${option.option}`, option.text];
}

function nodeName(option: QemuOption): readonly string[] {
  if (option.option !== 'blockdev' || !('json' in option)) return [];
  const name = option.json['node-name'];
  return typeof name === 'string' ? [name] : [];
}

function indexOf(roles: readonly string[], role: string): number {
  const index = roles.indexOf(role);
  if (index < 0) throw new Error(`no part has a file ${role}`);
  return index;
}

function checkUnique(names: readonly string[]): void {
  const duplicate = names.find((name, index) => names.indexOf(name) !== index);
  if (duplicate !== undefined) throw new Error(`two parts or files are called ${duplicate}`);
}
