import { basename } from 'node:path';
import { ImageError } from './error.ts';

/** Refuses an address in the place of a path, with what to write instead. Throws ImageError. */
export function refuseAddress(name: string): void {
  const [, scheme = ''] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(name) ?? [];
  if (scheme === '') return;
  const [path = ''] = name.slice(scheme.length + '://'.length).split(/[?#]/);
  const remedy =
    scheme.toLowerCase() === 'file'
      ? `write ${path}`
      : `fetch it with an artifact block, with mode = "file", and name the file that it becomes, such as local/${basename(path)}`;
  throw new ImageError('refused', `${name} is an address, not a path: ${remedy}`);
}
