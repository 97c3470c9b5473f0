import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DiskSource, type DiskSpec, primaryDisk } from '#spec';
import { imageOf } from './disks.ts';
import type { VmGround } from './vm.ts';

/** The local directory of the task, for images that it names by `local/…`. */
export function localOf({ taskDir }: VmGround): string {
  const local = join(taskDir, 'local');
  mkdirSync(local, { recursive: true });
  return local;
}

/** The guest's image in a format, as a file of the task's local directory. */
export function guestImage(
  ground: VmGround,
  name: string,
  format: string,
  options: readonly string[] = [],
): string {
  const path = join(localOf(ground), name);
  const image = imageOf(ground.spec(0)) ?? '';
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', format, ...options, image, path]);
  return path;
}

/** Compresses a file in place; its name stays. */
export function compress(path: string, program: 'gzip' | 'xz' | 'zstd' | 'bzip2'): void {
  const packed = execFileSync(program, ['-c', path], { maxBuffer: 2 ** 30 });
  writeFileSync(`${path}.new`, packed);
  renameSync(`${path}.new`, path);
}

/** A tar of files of the task's local directory, in this order. */
export function archive(ground: VmGround, name: string, members: readonly string[]): string {
  const local = localOf(ground);
  execFileSync('tar', ['-C', local, '-cf', join(local, name), ...members]);
  return join(local, name);
}

type Image = Extract<DiskSource, { kind: 'image' }>;

/** The first disk, thin, from this image. */
export function diskFrom(source: Omit<Image, 'kind'>, changes: Partial<DiskSpec> = {}): DiskSpec {
  const disk = primaryDisk({ image: source.image, thin: true });
  return { ...disk, block: 1, source: { kind: 'image', ...source }, ...changes };
}
