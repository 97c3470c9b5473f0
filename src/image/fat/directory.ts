import { constants, type Stats } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { relative } from 'node:path';
import { setImmediate as immediate } from 'node:timers/promises';
import {
  closeAside,
  closeLater,
  KeyedQueue,
  openBeneathAside,
  pathOnly,
  reopenAside,
  resizeAside,
  statAside,
} from '#host';
import type { Waiting } from '#spec';
import type { ImageRoots } from '../allow-list.ts';
import { checkWaiting, ImageError, step } from '../error.ts';
import { kindOf } from '../file-kind.ts';
import { readAt, writeAt } from '../positional.ts';
import { type AllowedFile, openAllowedDirectory } from '../roots.ts';
import { checkNames } from './names.ts';
import { type FatEntry, type FatFolder, type FatPlan, planFat } from './plan.ts';
import { diskBytes } from './volume.ts';

/** What a directory for a guest has: a seed, or the files of a program. */
const maxEntries = 4096;
const maxDepth = 16;
const chunkBytes = 1024 * 1024;
/** Of all directories of all jobs: to plan a full one takes tens of milliseconds. */
const planning = new KeyedQueue();

/**
 * A directory of the allow-list as the disk that QEMU's `fat:` would make of it: open, and with all that is in it looked
 * at. No link in it is followed.
 */
export class FatDirectory implements Disposable {
  /** Without links. */
  readonly path: string;
  /** Size of the disk. */
  readonly virtualBytes = diskBytes;
  readonly #directory: AllowedFile;
  readonly #plan: FatPlan;
  #open = true;

  private constructor(directory: AllowedFile, plan: FatPlan) {
    this.path = directory.path;
    this.#directory = directory;
    this.#plan = plan;
  }

  /** Throws ImageError for a directory that is not allowed, and for one with something that no FAT disk can have. */
  static async open(
    name: string,
    { roots, label }: { readonly roots: ImageRoots; readonly label: string },
    waiting: Waiting,
  ): Promise<FatDirectory> {
    const directory = await openAllowedDirectory(name, roots, waiting);
    try {
      const root = await new Walk(directory, waiting).folder(directory.path, directory.stats, 0);
      const plan = await planning.run('plan', async () => {
        await immediate();
        return planFat(root, label);
      });
      return new FatDirectory(directory, plan);
    } catch (error) {
      await closeAside(directory.fd);
      throw error;
    }
  }

  /** Makes an empty file the disk. Throws ImageError, `io` where the directory is not any more what it was. */
  async write(fd: number, waiting: Waiting): Promise<void> {
    await step(`writing the files of ${this.path}`, async () => {
      await resizeAside(fd, diskBytes);
      for (const { bytes, offset } of this.#plan.records) await writeAt(fd, bytes, offset);
      for (const file of this.#plan.files) await this.#copy(file, fd, waiting);
    });
  }

  async #copy(
    { path, offset, bytes }: FatPlan['files'][number],
    fd: number,
    { signal }: Waiting,
  ): Promise<void> {
    using opened = new DisposableStack();
    const found = opened.adopt(await openEntry(this.#directory, path), closeLater);
    const { size } = await checkEntry(this.#directory, path, found);
    if (size !== bytes) throw changed(path);
    const flags = constants.O_RDONLY | constants.O_NONBLOCK;
    const from = opened.adopt(await reopenAside(found, flags), closeLater);
    const buffer = new Uint8Array(Math.min(bytes, chunkBytes));
    for (let at = 0; at < bytes; at += chunkBytes) {
      checkWaiting(`copying ${path}`, signal);
      const chunk = buffer.subarray(0, Math.min(chunkBytes, bytes - at));
      const read = await readAt(from, chunk, at);
      if (read.length < chunk.length) throw changed(path);
      await writeAt(fd, read, offset + at);
    }
  }

  [Symbol.dispose](): void {
    // A second time the number may belong to another file.
    if (this.#open) closeLater(this.#directory.fd);
    this.#open = false;
  }
}

function changed(path: string): ImageError {
  return new ImageError('io', `${path} changed while it was being read`);
}

/** One look at all that is in a directory. */
class Walk {
  readonly #directory: AllowedFile;
  readonly #waiting: Waiting;
  #count = 0;

  constructor(directory: AllowedFile, waiting: Waiting) {
    this.#directory = directory;
    this.#waiting = waiting;
  }

  /** In the order of the names, so that a disk depends on its files only. */
  async folder(path: string, stats: Stats, depth: number): Promise<FatFolder> {
    if (depth > maxDepth) {
      throw new ImageError('refused', `${path} is more than ${maxDepth} directories deep`);
    }
    const entries: FatEntry[] = [];
    const names = (await this.#names(path)).toSorted();
    // Before they are opened: one in another encoding is not found by what was read of it.
    checkNames(names, path);
    for (const name of names) {
      entries.push(await this.#entry(`${path}/${name}`, name, depth));
    }
    const name = path.slice(path.lastIndexOf('/') + 1);
    return { kind: 'folder', name, path, modifiedMs: stats.mtimeMs, entries };
  }

  async #names(path: string): Promise<readonly string[]> {
    checkWaiting(`reading ${path}`, this.#waiting.signal);
    const fd = await openEntry(this.#directory, path, constants.O_DIRECTORY);
    try {
      return await step(`reading ${path}`, async () => {
        const names: string[] = [];
        for await (const { name } of await opendir(`/proc/self/fd/${fd}`)) {
          this.#count += 1;
          if (this.#count > maxEntries) throw tooMany(this.#directory.path);
          names.push(name);
        }
        return names;
      });
    } finally {
      await closeAside(fd);
    }
  }

  async #entry(path: string, name: string, depth: number): Promise<FatEntry> {
    const fd = await openEntry(this.#directory, path);
    try {
      const stats = await checkEntry(this.#directory, path, fd);
      if (stats.isDirectory()) return await this.folder(path, stats, depth + 1);
      return { kind: 'file', name, path, bytes: stats.size, modifiedMs: stats.mtimeMs };
    } finally {
      await closeAside(fd);
    }
  }
}

function tooMany(path: string): ImageError {
  const text = `${path} has more than ${maxEntries} files and directories, too many for a FAT disk`;
  return new ImageError('refused', text);
}

/** What is below the directory, without opening it: opening has effects on a device. */
async function openEntry(directory: AllowedFile, path: string, flags = 0): Promise<number> {
  const name = relative(directory.path, path) || '.';
  return step(`opening ${path}`, () =>
    openBeneathAside(directory.fd, name, pathOnly | constants.O_NOFOLLOW | flags),
  );
}

/** Files and directories only, and in a directory that tasks write to no file with a second name, which may be any file of the host. */
async function checkEntry(directory: AllowedFile, path: string, fd: number): Promise<Stats> {
  const stats = await step(`examining ${path}`, () => statAside(fd));
  if (stats.isDirectory()) return stats;
  if (!stats.isFile()) {
    const text = `${path} is ${kindOf(stats)}: the disk of a directory has only files and directories`;
    throw new ImageError('refused', text);
  }
  if (stats.nlink !== 1 && directory.ofTask) {
    const text = `${path} has ${stats.nlink} names (hard links): in a directory that tasks write to it may be any file of the host`;
    throw new ImageError('refused', text);
  }
  return stats;
}
