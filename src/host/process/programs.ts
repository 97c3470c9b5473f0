import { accessSync, constants, statSync } from 'node:fs';
import { join } from 'node:path';

const usualDirectories = ['/usr/sbin', '/sbin', '/usr/libexec'];

/** An executable file of that name on $PATH, in `extraDirs` or in the usual directories. Absolute path. */
export function findProgram(
  name: string,
  extraDirs: readonly string[] = [],
  path: string = process.env.PATH ?? '',
): string | undefined {
  const usual = ['/usr/bin', '/bin', ...usualDirectories];
  for (const directory of new Set([...path.split(':'), ...extraDirs, ...usual])) {
    const program = join(directory, name);
    if (directory.startsWith('/') && isExecutable(program)) return program;
  }
  return undefined;
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
