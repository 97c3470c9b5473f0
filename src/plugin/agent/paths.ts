import { posix } from 'node:path';
import { quoted, stateNames } from '#spec';
import type { Report } from '../hcl/problem.ts';
import type { Decoded, Fields } from '../hcl/schema.ts';

export const pathFields = {
  data_dir: {
    kind: 'attr',
    type: 'string',
    default: '/var/lib/virt',
    doc: 'Where the driver keeps what belongs to its VMs: one directory per VM, and its networks. An absolute path; made when it is missing. Every job may use images below it, except in `vms`, `uids`, `networks` and `image-store`.',
    example: '"/opt/nomad/virt"',
  },
  image_paths: {
    kind: 'attr',
    type: 'list(string)',
    default: [],
    doc: "Directories whose files jobs may use as disk images, beside data_dir, their task's own directory and the allocation's `alloc/`. Directories of other tasks and of the driver stay closed, even inside these. Absolute paths.",
    example: '["/var/local/images"]',
  },
  run_dir: {
    kind: 'attr',
    type: 'string',
    default: '/run/nomad-driver-qmp',
    doc: 'Where the sockets of running VMs are. An absolute path of at most 60 bytes, because socket paths are short; not in `vms`, `uids`, `networks` or `image-store` of data_dir.',
    example: '"/run/nomad-driver-qmp"',
  },
} as const satisfies Fields;

/** Directories of the driver, and those that images may come from. */
export interface Paths {
  readonly dataDir: string;
  readonly runDir: string;
  readonly imagePaths: readonly string[];
}

/** The driver's own directories in data_dir. */
export function stateDirs({ dataDir }: Pick<Paths, 'dataDir'>): readonly string[] {
  return stateNames.map((name) => posix.join(dataDir, name));
}

/** Whether a normalized path is this directory or in it. */
export function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`);
}

/** Normalized, since paths are compared as text elsewhere. */
export function readPaths(raw: Decoded<typeof pathFields>, report: Report): Paths {
  const dataDir = readOwnDir('data_dir', raw.data_dir, report);
  const runDir = readOwnDir('run_dir', raw.run_dir, report);
  if (Buffer.byteLength(runDir) > 60) report('run_dir', 'must be at most 60 bytes long');
  const taken = stateDirs({ dataDir }).find((directory) => isWithin(runDir, directory));
  if (taken !== undefined)
    report('run_dir', `must not be in ${taken}, where the driver keeps other things; leave it out`);
  const imagePaths = raw.image_paths.map((path, index) =>
    readPath(`image_paths[${index}]`, path, report),
  );
  return { dataDir, runDir, imagePaths };
}

function readOwnDir(key: string, value: string, report: Report): string {
  const path = readPath(key, value, report);
  if (path === '/') report(key, `must be a directory of the driver's own, not "/"`);
  return path;
}

/** Without `.`, `..`, doubled slashes and one at the end. */
export function readPath(key: string, value: string, report: Report): string {
  if (!value.startsWith('/')) {
    report(key, `must be an absolute path, not ${quoted(value)}`);
    return value;
  }
  const path = posix.normalize(value);
  return path === '/' ? path : path.replace(/\/$/, '');
}
