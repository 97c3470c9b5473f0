import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { errnoOf, type Logger, lockFile, openPath, within } from '#host';
import type { Checksum, Waiting } from '#spec';
import { ImageError, step } from '../error.ts';
import { checkDiskFile, type OpenImage } from '../open-image.ts';
import { Checksums, type NamedFile } from './checksums.ts';
import { contentsOf, Entry, type Stored, type Usage } from './entry.ts';
import { type ImportRequest, importImage, type OnProgress } from './import-image.ts';

const tryMs = 20;

export interface ObtainOptions {
  /** Name of the VM that uses the image until it is released. */
  readonly lease: string;
  readonly checksum?: Checksum | undefined;
  readonly onProgress: OnProgress;
}

/**
 * Images that had to be unpacked or converted: each is made once, by one of all tasks and processes that want it, and
 * kept until the room is needed and no VM uses it.
 */
export class ImageStore {
  readonly dir: string;
  readonly #maxBytes: number;
  readonly #log: Logger;
  readonly #checksums: Checksums;

  constructor({
    dir,
    maxBytes,
    log,
  }: { readonly dir: string; readonly maxBytes: number; readonly log: Logger }) {
    this.dir = dir;
    this.#maxBytes = maxBytes;
    this.#log = log;
    this.#checksums = new Checksums(`${dir}/checksums`);
  }

  /**
   * The image of a request, made now unless it is there. The caller has written down how to release the lease.
   * Throws ImageError; a cancelled import ends within a second and leaves nothing.
   */
  async obtain(
    request: ImportRequest,
    { lease, checksum, onProgress }: ObtainOptions,
    waiting: Waiting,
  ): Promise<OpenImage> {
    const { file } = request;
    if (checksum !== undefined) await this.verify(file, checksum, waiting);
    const sha256 = await this.#sha256(file, onProgress, waiting);
    const entry = new Entry(this.dir, keyOf(request, sha256));
    const image = await step(`importing ${file.path}`, async () => {
      await using _ = await this.#lock(lockOf(entry.key), waiting);
      const stored =
        (await this.#find(entry, waiting)) ??
        (await importImage(request, { entry, sha256, onProgress }, waiting));
      await entry.lease(lease);
      return await openStored(entry, stored, request);
    });
    await this.collect(waiting).catch((error: unknown) =>
      this.#log.warn('image store not collected', { error }),
    );
    return image;
  }

  /** Checks a file that is used where it is. Throws ImageError `refused`, with both sums, for a file of another content. */
  async verify(file: NamedFile, checksum: Checksum, waiting: Waiting): Promise<void> {
    await this.#checksums.check(file, checksum, waiting);
  }

  /** Names of all VMs that use an image. */
  async users(): Promise<readonly string[]> {
    const { keys } = await contentsOf(this.dir);
    return (await Promise.all(keys.map((key) => new Entry(this.dir, key).users()))).flat();
  }

  async release(lease: string): Promise<void> {
    await releaseImages(this.dir, lease);
  }

  /**
   * Removes what killed processes left, and the images that no VM uses, least recently used first, while all together
   * take more than the maximum.
   */
  async collect(waiting: Waiting): Promise<void> {
    const { keys, leftovers } = await contentsOf(this.dir);
    for (const [path, key] of leftovers) {
      await this.#ifFree(key, waiting, () => rm(path, { recursive: true, force: true }));
    }
    const usages: Usage[] = [];
    for (const key of keys) {
      const usage = await usageOf(new Entry(this.dir, key));
      if (usage !== undefined) usages.push(usage);
    }
    let bytes = usages.reduce((sum, usage) => sum + usage.bytes, 0);
    for (const usage of usages.toSorted((a, b) => a.usedMs - b.usedMs)) {
      if (bytes <= this.#maxBytes) break;
      if (!usage.isUsed && (await this.#removeUnused(usage, waiting))) bytes -= usage.bytes;
    }
    await this.#checksums.collect();
  }

  async #sha256(file: NamedFile, onProgress: OnProgress, waiting: Waiting): Promise<string> {
    // The first of many tasks computes it, the others find it.
    const hash = createHash('sha256').update(file.path).digest('hex');
    await using _ = await this.#lock(`checksum-${hash.slice(0, 2)}`, waiting);
    return this.#checksums.of(file, 'sha256', {
      ...waiting,
      onProgress: (percent) => onProgress({ step: 'checking', percent }),
    });
  }

  /** Undefined for an image that is missing, or is not what was stored, which is removed. */
  async #find(entry: Entry, waiting: Waiting): Promise<Stored | undefined> {
    const stored = await entry.read();
    if (stored !== undefined && (await entry.isIntact(stored, waiting))) return stored;
    if (stored !== undefined) {
      this.#log.warn('stored image is damaged and imported again', { image: entry.image });
    }
    await entry.remove();
    return undefined;
  }

  async #removeUnused({ entry, bytes }: Usage, waiting: Waiting): Promise<boolean> {
    return this.#ifFree(entry.key, waiting, async () => {
      const now = await usageOf(entry);
      if (now === undefined || now.isUsed) return;
      await entry.remove();
      this.#log.info('stored image removed', { image: entry.image, bytes });
    });
  }

  /** Runs the action under the key's lock; false where another one has it. */
  async #ifFree(key: string, waiting: Waiting, action: () => Promise<void>): Promise<boolean> {
    const path = await this.#lockPath(lockOf(key));
    // Nothing is awaited in between: a process that is late tries at least once.
    using moment = within(tryMs, waiting);
    const lock = await lockFile(path, moment).catch(() => undefined);
    waiting.signal.throwIfAborted();
    if (lock === undefined) return false;
    await using _ = lock;
    await action();
    return true;
  }

  /** A fixed number of lock files, since one that was used can't be removed. The kernel unlocks that of a killed process. */
  async #lock(name: string, waiting: Waiting): Promise<AsyncDisposable> {
    return lockFile(await this.#lockPath(name), waiting);
  }

  async #lockPath(name: string): Promise<string> {
    const dir = `${this.dir}/locks`;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    return `${dir}/${name}`;
  }
}

/** Ends all uses of a VM, in any process. */
export async function releaseImages(dir: string, lease: string): Promise<void> {
  const { keys } = await contentsOf(dir);
  for (const key of keys) await new Entry(dir, key).release(lease);
}

/** The same content, taken apart in the same way, into the same format: wherever the file is, and when. */
function keyOf({ member, format, to }: ImportRequest, sha256: string): string {
  const parts = ['image', 1, sha256, member ?? null, format ?? null, to ?? null];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

function lockOf(key: string): string {
  return `image-${key.slice(0, 2)}`;
}

async function openStored(
  { image: path }: Entry,
  { format, virtualBytes }: Stored,
  { file, maxVirtualBytes }: ImportRequest,
): Promise<OpenImage> {
  if (virtualBytes > maxVirtualBytes) {
    const text = `${file.path} is a disk of ${virtualBytes} bytes, more than the ${maxVirtualBytes} asked for`;
    throw new ImageError('refused', text);
  }
  const fd = openPath(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  return checkDiskFile({ fd, path }, { maxVirtualBytes, format });
}

async function usageOf(entry: Entry): Promise<Usage | undefined> {
  try {
    return await entry.usage();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
