import { findProgram } from '#host';
import {
  type FoundImage,
  findImage,
  ImageError,
  type ImageRoots,
  type ImportProgress,
  type OpenImage,
} from '#image';
import { type DiskFormat, type DiskSource, type DiskSpec, diskKey, type Waiting } from '#spec';
import type { Site } from '../devices/device.ts';
import { asVmError, VmError, withVmError } from '../error.ts';
import { poolDisks, uuidOf } from '../store/paths.ts';
import type { DiskHost } from './disk.ts';
import { importEvents } from './import-events.ts';
import type { ImageFacts } from './plan.ts';
import type { DirectoryPool } from './pool.ts';

/**
 * What a disk is created from, open and checked by its header. One that has to be imported first is imported when the
 * disk is prepared.
 */
export class Source implements Disposable {
  readonly #spec: DiskSpec;
  readonly #found: FoundImage;
  readonly #host: DiskHost;
  readonly #to: DiskFormat | undefined;
  readonly #opened = new DisposableStack();
  #imported: OpenImage | undefined;

  constructor(
    spec: DiskSpec,
    found: FoundImage,
    { host, to }: { readonly host: DiskHost; readonly to: DiskFormat | undefined },
  ) {
    this.#spec = spec;
    this.#found = this.#opened.use(found);
    this.#host = host;
    this.#to = to;
  }

  /** The image where it is used as it is, or was imported. */
  get image(): OpenImage | undefined {
    const { image } = this.#found;
    if (this.#imported !== undefined) return this.#imported;
    return this.#to === undefined || this.#to === image?.format ? image : undefined;
  }

  /** What is known of the image before it is there: nothing while it is compressed or in an archive. */
  get facts(): ImageFacts | undefined {
    if (this.image !== undefined) return this.image;
    const { disk } = this.#found;
    if (disk === undefined) return undefined;
    const { virtualBytes } = disk;
    return { format: this.#to ?? 'raw', virtualBytes, fileBytes: virtualBytes };
  }

  /** The image, imported where it has to be. Throws VmError naming the key. */
  async ready(site: Site, waiting: Waiting): Promise<OpenImage> {
    const { source } = this.#spec;
    const { images } = this.#host;
    const { file } = this.#found;
    const report = importEvents(file.path, site.emit);
    const checksum = source?.kind === 'image' ? source.checksum : undefined;
    if (checksum !== undefined) {
      const onProgress = (percent: number): void => report({ step: 'checking', percent });
      await withVmError(
        () => images.verify(file, checksum, { ...waiting, onProgress }),
        diskKey(this.#spec, 'source.checksum'),
      );
    }
    if (this.image !== undefined) return this.image;
    this.#imported = this.#opened.use(await this.#import(site, report, waiting));
    return this.#imported;
  }

  async #import(
    { vm, paths, uid, undo }: Site,
    onProgress: (progress: ImportProgress) => void,
    waiting: Waiting,
  ): Promise<OpenImage> {
    const { source } = this.#spec;
    const { images, maxImageBytes } = this.#host;
    const { file } = this.#found;
    const mark = uuidOf(paths.dir);
    const prlimit = findProgram('prlimit');
    const converter = { qemuImg: findProgram('qemu-img'), prlimit, uid, mark };
    const stated = source?.kind === 'image' ? source : undefined;
    const { format, member } = { format: undefined, member: undefined, ...stated };
    await undo.note({ kind: 'image', store: images.dir, vm });
    await undo.note({ kind: 'process', mark, program: prlimit ?? 'prlimit', uid });
    return await withSourceKey(this.#spec, () =>
      images.obtain(
        { file, format, member, to: this.#to, maxVirtualBytes: maxImageBytes, converter },
        { lease: vm, onProgress },
        waiting,
      ),
    );
  }

  [Symbol.dispose](): void {
    this.#opened.dispose();
  }
}

/**
 * Opens and checks what the disk is created from; undefined for an empty disk. `to` is the format that it is needed in;
 * undefined: either. Throws VmError naming the key.
 */
export async function openSource(
  spec: DiskSpec,
  {
    pool,
    to,
    host,
  }: {
    readonly pool: DirectoryPool | undefined;
    readonly to: DiskFormat | undefined;
    readonly host: DiskHost;
  },
  waiting: Waiting,
): Promise<Source | undefined> {
  const { source } = spec;
  if (source === undefined) return undefined;
  const { name, roots, format, member } = placeOf(spec, source, { pool, host });
  const { maxImageBytes: maxVirtualBytes } = host;
  const found = await withSourceKey(spec, () =>
    findImage(name, roots, { format, member, maxVirtualBytes }, waiting),
  );
  const { disk = { format } } = found;
  if (format === undefined || format === disk.format) return new Source(spec, found, { host, to });
  found[Symbol.dispose]();
  const text = `${found.file.path} is ${disk.format}, not ${format}`;
  throw new VmError('job', `${diskKey(spec, 'source.format')}: ${text}`);
}

interface SourcePlace {
  readonly name: string;
  readonly roots: ImageRoots;
  readonly format: Extract<DiskSource, { kind: 'image' }>['format'];
  readonly member: string | undefined;
}

function placeOf(
  spec: DiskSpec,
  source: DiskSource,
  { pool, host }: { readonly pool: DirectoryPool | undefined; readonly host: DiskHost },
): SourcePlace {
  if (source.kind === 'image') {
    const { image: name, format, member } = source;
    return { name, roots: host.files, format, member };
  }
  if (source.kind === 'directory') throw new Error(`${source.directory} is no image`);
  const asItIs = { format: undefined, member: undefined };
  if (pool !== undefined) return { name: source.volume, roots: volumesOf(pool), ...asItIs };
  const text = `the driver's own pool has no volumes to use; name a pool of storage_pools`;
  throw new VmError('job', `${diskKey(spec, 'source.volume')}: ${text}`);
}

/** Runs a step on what the disk is created from; its error names the key that it is about. */
async function withSourceKey<T>(spec: DiskSpec, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw asVmError(error, diskKey(spec, sourceKey(spec, error)));
  }
}

function sourceKey({ source }: DiskSpec, error: unknown) {
  if (source?.kind === 'volume') return 'source.volume';
  const isMember = error instanceof ImageError && error.code === 'member';
  return isMember ? 'source.member' : 'source.image';
}

/** What an operator put into the pool, without the disks of VMs. */
function volumesOf(pool: DirectoryPool): ImageRoots {
  return { trusted: [pool.path], task: [], denied: [poolDisks(pool)], relativeTo: [pool.path] };
}
