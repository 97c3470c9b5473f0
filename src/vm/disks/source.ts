import { findProgram } from '#host';
import { type FoundImage, findImage, type ImageRoots, type OpenImage } from '#image';
import { type DiskFormat, type DiskSource, type DiskSpec, diskKey, type Waiting } from '#spec';
import type { Site } from '../devices/device.ts';
import { VmError, withVmError } from '../error.ts';
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

  /** The image where it is used as it is. */
  get image(): OpenImage | undefined {
    const { image } = this.#found;
    return this.#to === undefined || this.#to === image?.format ? image : undefined;
  }

  /** What is known of the image before it is there. */
  get facts(): ImageFacts {
    const { virtualBytes } = this.#found;
    return this.image ?? { format: this.#to ?? 'raw', virtualBytes, fileBytes: virtualBytes };
  }

  /** The image, imported where it has to be. Throws VmError naming the key. */
  async ready(site: Site, waiting: Waiting): Promise<OpenImage> {
    const { source } = this.#spec;
    const { images } = this.#host;
    const checksum = source?.kind === 'image' ? source.checksum : undefined;
    if (checksum !== undefined) {
      await withVmError(
        () => images.verify(this.#found.file, checksum, waiting),
        diskKey(this.#spec, 'source.checksum'),
      );
    }
    return this.image ?? this.#opened.use(await this.#import(site, waiting));
  }

  async #import({ vm, paths, uid, undo, emit }: Site, waiting: Waiting): Promise<OpenImage> {
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
    return await withVmError(
      () =>
        images.obtain(
          { file, format, member, to: this.#to, maxVirtualBytes: maxImageBytes, converter },
          { lease: vm, onProgress: importEvents(file.path, emit) },
          waiting,
        ),
      sourceKey(this.#spec),
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
  const { name, roots, format } = placeOf(spec, source, { pool, host });
  const { maxImageBytes: maxVirtualBytes } = host;
  const found = await withVmError(
    () => findImage(name, roots, { format, maxVirtualBytes }, waiting),
    sourceKey(spec),
  );
  if (format === undefined || format === found.format) return new Source(spec, found, { host, to });
  found[Symbol.dispose]();
  const text = `${found.file.path} is ${found.format}, not ${format}`;
  throw new VmError('job', `${diskKey(spec, 'source.format')}: ${text}`);
}

interface SourcePlace {
  readonly name: string;
  readonly roots: ImageRoots;
  readonly format: Extract<DiskSource, { kind: 'image' }>['format'];
}

function placeOf(
  spec: DiskSpec,
  source: DiskSource,
  { pool, host }: { readonly pool: DirectoryPool | undefined; readonly host: DiskHost },
): SourcePlace {
  if (source.kind === 'image') {
    if (source.member !== undefined) {
      // One that names a file of something that is no archive would be ignored.
      throw new VmError('job', `${diskKey(spec, 'source.member')}: is not supported yet`);
    }
    return { name: source.image, roots: host.files, format: source.format };
  }
  if (pool !== undefined) return { name: source.volume, roots: volumesOf(pool), format: undefined };
  const text = `the driver's own pool has no volumes to use; name a pool of storage_pools`;
  throw new VmError('job', `${diskKey(spec, 'source.volume')}: ${text}`);
}

function sourceKey(spec: DiskSpec): string {
  return diskKey(spec, spec.source?.kind === 'volume' ? 'source.volume' : 'source.image');
}

/** What an operator put into the pool, without the disks of VMs. */
function volumesOf(pool: DirectoryPool): ImageRoots {
  return { trusted: [pool.path], task: [], denied: [poolDisks(pool)], relativeTo: [pool.path] };
}
