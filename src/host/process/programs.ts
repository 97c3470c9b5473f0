import { accessSync, constants, statSync } from 'node:fs';
import { join } from 'node:path';

const usualDirectories = ['/usr/sbin', '/sbin', '/usr/libexec'];

/** An executable file of that name on $PATH, in `extraDirs` or in the usual directories. Absolute path. */
export function findProgram(
  name: string,
  extraDirs: readonly string[] = [],
  path: string = process.env.PATH ?? '',
): string | undefined {
  return [...path.split(':'), ...extraDirs, '/usr/bin', '/bin', ...usualDirectories]
    .filter((directory) => directory.startsWith('/'))
    .map((directory) => join(directory, name))
    .find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    // An exception, of which each costs as much as ten of these calls, is not to be the answer for most directories.
    if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return false;
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
