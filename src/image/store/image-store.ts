import { constants } from 'node:fs';
import { rm } from 'node:fs/promises';
import { errnoOf, type Logger, openAside, statAside } from '#host';
import type { Checksum, Waiting } from '#spec';
import { ImageError, step } from '../error.ts';
import { isPacked } from '../import/packing.ts';
import { checkDiskFile, type OpenImage } from '../open-image.ts';
import { readAt } from '../positional.ts';
import { sniffBytes } from '../sniff.ts';
import { type Checking, Checksums, type NamedFile } from './checksums.ts';
import { Draft } from './draft.ts';
import { contentsOf, Entry, type Stored, type Usage } from './entry.ts';
import { type ImportRequest, importImage, type OnProgress } from './import-image.ts';
import { keyOf, sourceLockOf } from './keys.ts';
import { checksumLock, imageLock, Locks } from './locks.ts';

export interface ObtainOptions {
  /** Name of the VM that uses the image until it is released. */
  readonly lease: string;
  readonly checksum?: Checksum | undefined;
  readonly onProgress: OnProgress;
}

type Use = Pick<ObtainOptions, 'lease' | 'onProgress'>;

/**
 * Images that had to be unpacked or converted: each is made once, by one of all tasks and processes that want it, and
 * kept until the room is needed and no VM uses it.
 */
export class ImageStore {
  readonly dir: string;
  readonly #maxBytes: number;
  readonly #log: Logger;
  readonly #checksums: Checksums;
  readonly #locks: Locks;

  constructor({
    dir,
    maxBytes,
    log,
  }: { readonly dir: string; readonly maxBytes: number; readonly log: Logger }) {
    this.dir = dir;
    this.#maxBytes = maxBytes;
    this.#log = log;
    this.#checksums = new Checksums(`${dir}/checksums`);
    this.#locks = new Locks(`${dir}/locks`);
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
    const use = { lease, onProgress };
    const image = await step(
      `importing ${file.path}`,
      async () =>
        (await this.#importUnknown(request, use, waiting)) ??
        (await this.#obtainKnown(request, use, waiting)),
    );
    await this.collect(waiting).catch((error: unknown) =>
      this.#log.warn('image store not collected', { error }),
    );
    return image;
  }

  /** Checks a file that is used where it is. Throws ImageError `refused`, with both sums, for a file of another content. */
  async verify(file: NamedFile, checksum: Checksum, waiting: Checking): Promise<void> {
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
      await this.#locks.ifFree(imageLock(key), waiting, () =>
        rm(path, { recursive: true, force: true }),
      );
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

  /**
   * Imports a packed file and sums it up at the same time: to read it for the checksum first takes a fifth of the whole. undefined
   * where the image may be there already, for what is stored of a file of this size.
   */
  async #importUnknown(
    request: ImportRequest,
    use: Use,
    waiting: Waiting,
  ): Promise<OpenImage | undefined> {
    const { file } = request;
    if (await this.#mayHave(request)) return undefined;
    await using alone = await this.#lockSource(request, waiting);
    // Another task may have imported it since.
    if (alone === undefined || (await this.#mayHave(request))) return undefined;
    await using draft = await Draft.begin(this.dir, await sourceLockOf(request));
    const learn = await this.#checksums.watch(file);
    const { onProgress } = use;
    const stored = await importImage(request, { draft, sha256: undefined, onProgress }, waiting);
    const { sha256 } = stored.source;
    await learn('sha256', sha256);
    const entry = new Entry(this.dir, keyOf(request, sha256));
    const publish = async (): Promise<Stored> => {
      await draft.publish(entry, stored);
      return stored;
    };
    return await this.#use(entry, { request, use, make: publish }, waiting);
  }

  /** By the checksum of the file. */
  async #obtainKnown(request: ImportRequest, use: Use, waiting: Waiting): Promise<OpenImage> {
    const sha256 = await this.#sha256(request.file, use.onProgress, waiting);
    const entry = new Entry(this.dir, keyOf(request, sha256));
    // Such a file may be being imported as one that is not known.
    await using _ = await this.#lockSource(request, waiting);
    const make = async (): Promise<Stored> => {
      await using draft = await Draft.begin(this.dir, entry.key);
      const order = { draft, sha256, onProgress: use.onProgress };
      const stored = await importImage(request, order, waiting);
      await draft.publish(entry, stored);
      return stored;
    };
    return await this.#use(entry, { request, use, make }, waiting);
  }

  /** The entry's image, made unless it is there, and leased before anything else can remove it. */
  async #use(
    entry: Entry,
    { request, use, make }: { request: ImportRequest; use: Use; make: () => Promise<Stored> },
    waiting: Waiting,
  ): Promise<OpenImage> {
    await using _ = await this.#locks.take(imageLock(entry.key), waiting);
    const stored = (await this.#find(entry, waiting)) ?? (await make());
    await entry.lease(use.lease);
    return await openStored(entry, stored, request);
  }

  /** undefined for what is not packed: a checksum takes little of such an import, and its size is that of many others. */
  async #lockSource(
    request: ImportRequest,
    waiting: Waiting,
  ): Promise<AsyncDisposable | undefined> {
    const head = await readAt(request.file.fd, Buffer.alloc(sniffBytes), 0);
    return isPacked(head) ? this.#locks.take(await sourceLockOf(request), waiting) : undefined;
  }

  /** Whether the checksum of the file is known, or some stored image was made of a file of the same size. */
  async #mayHave({ file, member }: ImportRequest): Promise<boolean> {
    if ((await this.#checksums.known(file, 'sha256')) !== undefined) return true;
    const { size } = await statAside(file.fd);
    const { keys } = await contentsOf(this.dir);
    const all = await Promise.all(keys.map((key) => new Entry(this.dir, key).read()));
    return all.some((it) => it?.source.member === member && (it?.source.bytes ?? size) === size);
  }

  async #sha256(file: NamedFile, onProgress: OnProgress, waiting: Waiting): Promise<string> {
    // The first of many tasks computes it, the others find it.
    await using _ = await this.#locks.take(checksumLock(file.path), waiting);
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
      // They have its file open, whatever has become of it: what takes its place is not theirs.
      const users = (await entry.users()).join(' ');
      this.#log.warn('stored image is damaged and imported again', { image: entry.image, users });
    }
    await entry.remove();
    return undefined;
  }

  async #removeUnused({ entry, bytes }: Usage, waiting: Waiting): Promise<boolean> {
    return this.#locks.ifFree(imageLock(entry.key), waiting, async () => {
      const now = await usageOf(entry);
      if (now === undefined || now.isUsed) return;
      await entry.remove();
      this.#log.info('stored image removed', { image: entry.image, bytes });
    });
  }
}

/** Ends all uses of a VM, in any process. */
export async function releaseImages(dir: string, lease: string): Promise<void> {
  const { keys } = await contentsOf(dir);
  for (const key of keys) await new Entry(dir, key).release(lease);
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
  const fd = await openAside(path, constants.O_RDONLY | constants.O_NOFOLLOW);
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
