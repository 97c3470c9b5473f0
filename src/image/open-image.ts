import { closeAside, closeLater, statAside } from '#host';
import { type Waiting, wholeSectors } from '#spec';
import type { ImageRoots } from './allow-list.ts';
import { ImageError, step } from './error.ts';
import { otherFile } from './other-file.ts';
import { readAt } from './positional.ts';
import { inspectQcow2 } from './qcow2.ts';
import { type AllowedFile, openAllowed } from './roots.ts';
import { type FileFormat, refusalOf, sniff, sniffBytes } from './sniff.ts';

/** The formats that are given to QEMU. */
export type ImageFormat = 'raw' | 'qcow2';

type LookedAtFile = Omit<AllowedFile, 'ofTask'>;

export interface OpenImageOptions {
  /** Maximum size of the disk, as the guest would see it. */
  readonly maxVirtualBytes: number;
  /**
   * The format where it is known already. A disk that was raw once must always be opened as `raw`: its guest may have
   * written the mark of any format into its first bytes. undefined: recognised by its mark.
   */
  readonly format?: ImageFormat | undefined;
}

/** A disk file that passed every check, held by the very descriptor that was checked. */
export class OpenImage implements Disposable {
  /** Read-only. QEMU gets this descriptor, never the name. */
  readonly fd: number;
  /** The file's real path when it was opened. */
  readonly path: string;
  readonly format: ImageFormat;
  /** The disk's size as a guest sees it, a multiple of 512 with raw disks. */
  readonly virtualBytes: number;
  /** The file's size, holes included. */
  readonly fileBytes: number;
  #open = true;

  private constructor(file: LookedAtFile, format: ImageFormat, virtualBytes: number) {
    this.fd = file.fd;
    this.path = file.path;
    this.format = format;
    this.virtualBytes = virtualBytes;
    this.fileBytes = file.stats.size;
  }

  /** Checks the content of an allowed file; owns its descriptor from here on, also when this throws. */
  static async check(file: LookedAtFile, options: OpenImageOptions): Promise<OpenImage> {
    try {
      const head = await step(`reading ${file.path}`, () =>
        readAt(file.fd, new Uint8Array(sniffBytes), 0),
      );
      const format = options.format ?? (await recogniseFormat(file, head));
      const virtualBytes = format === 'raw' ? rawBytes(file) : qcow2Bytes(file, head);
      checkSize(file, virtualBytes, options.maxVirtualBytes);
      return new OpenImage(file, format, virtualBytes);
    } catch (error) {
      await closeAside(file.fd);
      throw error;
    }
  }

  [Symbol.dispose](): void {
    // A second time the number may belong to another file.
    if (this.#open) closeLater(this.fd);
    this.#open = false;
  }
}

/**
 * Checks the content of a file that is open for reading, as a disk of a stated format. Owns the descriptor, also when it
 * throws ImageError.
 */
export async function checkDiskFile(
  { fd, path }: { readonly fd: number; readonly path: string },
  options: OpenImageOptions,
): Promise<OpenImage> {
  return OpenImage.check({ fd, path, stats: await statAside(fd) }, options);
}

/** The format of an open file by its mark, which only errors may depend on: a guest can write any mark into a raw disk. */
export async function markedFormat({
  fd,
  path,
}: Pick<AllowedFile, 'fd' | 'path'>): Promise<FileFormat> {
  return step(`reading ${path}`, async () =>
    sniff(await readAt(fd, new Uint8Array(sniffBytes), 0)),
  );
}

/**
 * Opens a disk file by the rules of `openAllowed` and checks its first 4 KiB. Throws ImageError, with `refused`
 * for a content that no emulator gets and for a disk beyond the limit.
 */
export async function openImage(
  name: string,
  roots: ImageRoots,
  options: OpenImageOptions,
  waiting: Waiting,
): Promise<OpenImage> {
  return OpenImage.check(await openAllowed(name, roots, waiting), options);
}

/** Reads a file whole, by the same rules. ImageError `refused` beyond the limit. */
export async function readBytes(
  name: string,
  roots: ImageRoots,
  { maxBytes }: { readonly maxBytes: number },
  waiting: Waiting,
): Promise<Uint8Array> {
  const { fd, path, stats } = await openAllowed(name, roots, waiting);
  try {
    // One byte more than allowed shows whether the file has grown.
    const space = new Uint8Array(Math.min(stats.size, maxBytes) + 1);
    const bytes = await step(`reading ${path}`, () => readAt(fd, space, 0));
    if (stats.size > maxBytes || bytes.length > maxBytes) {
      throw new ImageError('refused', `${path} is larger than ${maxBytes} bytes`);
    }
    return bytes;
  } finally {
    await closeAside(fd);
  }
}

async function recogniseFormat(file: LookedAtFile, head: Uint8Array): Promise<ImageFormat> {
  const format = sniff(head);
  // Every content is a raw disk, so what is known for something else must be refused by its kind.
  const refusal = format === 'raw' ? await otherFile(file, head) : refusalOf(format);
  if (refusal !== undefined) {
    throw new ImageError('refused', `${file.path} is refused: ${refusal}`);
  }
  return format === 'qcow2' ? format : 'raw';
}

function rawBytes({ path, stats }: LookedAtFile): number {
  if (stats.size === 0) throw new ImageError('refused', `${path} is refused: it is empty`);
  // QEMU counts in sectors and reads zeros after the end of the file.
  return wholeSectors(stats.size);
}

/** Problems that a copy of the whole disk does not have. To make it is to read the other files, so it is left to the user. */
const convertible =
  /backing file|data in another file|external data file|internal snapshots|unknown features/;
const conversion =
  'of an image that you trust, make a copy without that: qemu-img convert -O qcow2 IN OUT';

function qcow2Bytes({ path, stats }: LookedAtFile, head: Uint8Array): number {
  const { virtualBytes, problems } = inspectQcow2(head, stats.size);
  if (problems.length === 0) return virtualBytes;
  const list = problems.join('; ');
  const remedy = convertible.test(list) ? `; ${conversion}` : '';
  throw new ImageError('refused', `${path} is refused: ${list}${remedy}`);
}

function checkSize({ path }: LookedAtFile, virtualBytes: number, maxVirtualBytes: number): void {
  if (virtualBytes <= maxVirtualBytes) return;
  const text = `${path} is a disk of ${virtualBytes} bytes, more than the ${maxVirtualBytes} asked for`;
  throw new ImageError('refused', text);
}
