import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder, recipeHash } from './cache.ts';
import { bootSector, type SectorMode, sectorQcow2, sectorRaw } from './sector.ts';

/**
 * Absolute path of the one-sector guest as a disk file, 1 MiB virtual. Shared between tests and runs: open it
 * read-only, or create an overlay or a copy.
 */
export function sectorImage(mode: SectorMode, format: 'raw' | 'qcow2' = 'raw'): string {
  const folder = join(cacheFolder(), `sector-${recipeHash([bootSector(0)])}`);
  const path = join(folder, `mode-${mode}.${format}`);
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  // Written to another name and renamed: a parallel test never sees half a disk, and two writers write the same bytes.
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, format === 'raw' ? sectorRaw(mode) : sectorQcow2(mode));
  renameSync(draft, path);
  return path;
}
