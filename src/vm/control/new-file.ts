import { realpath } from 'node:fs/promises';
import { basename, dirname, isAbsolute, normalize } from 'node:path';
import { answered, errnoOf } from '#host';
import type { Waiting } from '#spec';
import { VmError } from '../error.ts';
import { KeptFile } from '../store/kept-file.ts';

/** A file that an operator wants to have, at an absolute path; not one that exists, nor one of the driver's own. Throws VmError. */
export async function newFile(path: string, dataDir: string, waiting: Waiting): Promise<KeptFile> {
  if (!isAbsolute(path) || normalize(path) !== path) {
    throw new VmError('host', `${path} is not the absolute path of a file`);
  }
  const directory = await directoryOf(path, waiting);
  if (`${directory}/`.startsWith(`${await realpath(dataDir)}/`)) {
    throw new VmError(
      'host',
      `${path} is in ${dataDir}, which is the driver's own: write it elsewhere`,
    );
  }
  const file = await KeptFile.in(directory, basename(path));
  if (!(await file.exists())) return file;
  file[Symbol.dispose]();
  throw existsAlready(path);
}

/** Without links. */
async function directoryOf(path: string, waiting: Waiting): Promise<string> {
  try {
    return await answered(dirname(path), (named) => realpath(named), waiting);
  } catch (cause) {
    if (!/^(ENOENT|ENOTDIR)$/.test(errnoOf(cause) ?? '')) throw cause;
    throw new VmError('host', `there is no directory ${dirname(path)}`, { cause });
  }
}

export function existsAlready(path: string): VmError {
  return new VmError('host', `${path} exists already`);
}
