import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where built guests are kept between runs: outside the tree, shared by every checkout of one user. */
export function cacheFolder(): string {
  const base = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  const folder = join(base, 'nomad-driver-qmp', 'guests');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** A short hash of everything that a guest is built from: changes when any part does. */
export function recipeHash(parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest('hex').slice(0, 12);
}

/** The same for files and whole folders, by name and content. */
export function hashOfFiles(paths: readonly string[]): string {
  const parts = paths.flatMap((path) =>
    statSync(path).isDirectory()
      ? readdirSync(path, { recursive: true, encoding: 'utf8' })
          .sort()
          .filter((name) => statSync(join(path, name)).isFile())
          .flatMap((name) => [name, readFileSync(join(path, name))])
      : [readFileSync(path)],
  );
  return recipeHash(parts);
}
