import { closeLater } from '#host';
import type { DiskFormat, ForeignFormat, Waiting } from '#spec';
import type { ImageRoots } from '../allow-list.ts';
import { inspectForeign } from '../convert/foreign.ts';
import { ImageError, step } from '../error.ts';
import { isPacked } from '../import/packing.ts';
import { OpenImage } from '../open-image.ts';
import { readAt } from '../positional.ts';
import { type AllowedFile, openAllowed } from '../roots.ts';
import { sniff, sniffBytes } from '../sniff.ts';

/** What an image that a job names is, by its header; nothing was changed for it. */
export interface FoundImage extends Disposable {
  readonly file: { readonly fd: number; readonly path: string };
  /** What its header states; undefined for a compressed file or an archive. */
  readonly disk:
    | { readonly format: DiskFormat | ForeignFormat; readonly virtualBytes: number }
    | undefined;
  /** The image itself where QEMU can use it as it is; undefined: it has to be imported first. */
  readonly image: OpenImage | undefined;
}

export interface FindOptions {
  /**
   * As the job states it, which only decides what a file without a mark is: a fixed VHD has none at its start. Whether it
   * is what was found, is for the caller to compare. undefined: recognised by its mark.
   */
  readonly format: DiskFormat | ForeignFormat | undefined;
  /** Which file of an archive is wanted. */
  readonly member: string | undefined;
  readonly maxVirtualBytes: number;
}

/**
 * Opens an image by the rules of `openAllowed` and checks its header by its format; what a compressed file or an archive
 * contains is checked by its import. Throws ImageError.
 */
export async function findImage(
  name: string,
  roots: ImageRoots,
  options: FindOptions,
  waiting: Waiting,
): Promise<FoundImage> {
  const file = await openAllowed(name, roots, waiting);
  let open = true;
  const close = (): void => {
    // A second time the number may belong to another file.
    if (open) closeLater(file.fd);
    open = false;
  };
  try {
    const head = await step(`reading ${file.path}`, () =>
      readAt(file.fd, new Uint8Array(sniffBytes), 0),
    );
    const toImport = { file, image: undefined, [Symbol.dispose]: close };
    if (isPacked(head)) return { ...toImport, disk: undefined };
    checkNoMember(file, options);
    const marked = sniff(head);
    const format = options.format === 'vpc' && marked === 'raw' ? 'vpc' : marked;
    if (isForeign(format)) {
      const virtualBytes = await checkForeign(file, { ...options, format });
      return { ...toImport, disk: { format, virtualBytes } };
    }
  } catch (error) {
    close();
    throw error;
  }
  const { maxVirtualBytes } = options;
  const image = await OpenImage.check(file, { maxVirtualBytes });
  return { file, disk: image, image, [Symbol.dispose]: () => image[Symbol.dispose]() };
}

function checkNoMember({ path }: AllowedFile, { member }: FindOptions): void {
  if (member === undefined) return;
  throw new ImageError('member', `${path} is no archive, so it has no file ${member}`);
}

function isForeign(format: string): format is ForeignFormat {
  return ['vmdk', 'vdi', 'vhdx', 'vpc'].includes(format);
}

async function checkForeign(
  { fd, path, stats }: AllowedFile,
  { format, maxVirtualBytes }: { readonly format: ForeignFormat; readonly maxVirtualBytes: number },
): Promise<number> {
  const { virtualBytes, problems } = await inspectForeign(format, {
    fileBytes: stats.size,
    read: async (offset, bytes) => Buffer.from(await readAt(fd, Buffer.alloc(bytes), offset)),
  });
  if (problems.length > 0) {
    throw new ImageError('refused', `${path} is refused as ${format}: ${problems.join('; ')}`);
  }
  if (virtualBytes <= maxVirtualBytes) return virtualBytes;
  const text = `${path} is a disk of ${virtualBytes} bytes, more than the ${maxVirtualBytes} asked for`;
  throw new ImageError('refused', text);
}
