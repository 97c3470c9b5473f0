import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder, hashOfFiles } from './cache.ts';
import { buildCached } from './cached-build.ts';

const recipe = join(import.meta.dirname, 'cloud-init.sh');
/** What each of the releases imports. */
const needs = 'needs';

/** A release of cloud-init, unpacked. */
export interface CloudInit {
  readonly version: string;
  /** Where Python finds it and what it imports. */
  readonly pythonPath: string;
}

/**
 * cloud-init as several releases of Debian have it, oldest first; from the cache, or fetched now (half a minute). Throws an
 * Error with the reason where they can't be had.
 */
export async function cloudInits(
  log: (line: string) => void = () => {},
): Promise<readonly CloudInit[]> {
  const folder = join(cacheFolder(), `cloud-init-${hashOfFiles([recipe])}`);
  if (!existsSync(folder)) await buildCached('cloud-init', { folder, recipe, args: [] }, log);
  return readdirSync(folder)
    .filter((name) => name !== needs)
    .toSorted((a, b) => Number.parseFloat(a) - Number.parseFloat(b))
    .map((version) => ({ version, pythonPath: `${folder}/${version}:${folder}/${needs}` }));
}
