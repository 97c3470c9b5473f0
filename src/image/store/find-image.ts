import { closeFd } from '#host';
import type { DiskFormat, ForeignFormat, Waiting } from '#spec';
import { inspectForeign } from '../convert/foreign.ts';
import { ImageError } from '../error.ts';
import { OpenImage } from '../open-image.ts';
import { readAt } from '../positional.ts';
import { type AllowedFile, type ImageRoots, openAllowed } from '../roots.ts';
import { sniff, sniffBytes } from '../sniff.ts';

/** What an image that a job names is, by its header; nothing was changed for it. */
export interface FoundImage extends Disposable {
  readonly file: { readonly fd: number; readonly path: string };
  readonly format: DiskFormat | ForeignFormat;
  readonly virtualBytes: number;
  /** The image itself where QEMU can use it as it is; undefined: it has to be imported first. */
  readonly image: OpenImage | undefined;
}

/** Opens an image by the rules of `openAllowed` and checks its header by its format. Throws ImageError. */
export async function findImage(
  name: string,
  roots: ImageRoots,
  options: {
    /** As the job states it; a fixed VHD has no mark at its start. undefined: recognised by its mark. */
    readonly format: DiskFormat | ForeignFormat | undefined;
    readonly maxVirtualBytes: number;
  },
  waiting: Waiting,
): Promise<FoundImage> {
  const file = await openAllowed(name, roots, waiting);
  const { maxVirtualBytes } = options;
  const format = await foreignFormat(file, options.format);
  if (format === undefined) {
    const image = await OpenImage.check(file, { maxVirtualBytes });
    const close = { [Symbol.dispose]: () => image[Symbol.dispose]() };
    return { file, format: image.format, virtualBytes: image.virtualBytes, image, ...close };
  }
  try {
    const virtualBytes = await checkForeign(file, { format, maxVirtualBytes });
    let open = true;
    const close = (): void => {
      // A second time the number may belong to another file.
      if (open) closeFd(file.fd);
      open = false;
    };
    return { file, format, virtualBytes, image: undefined, [Symbol.dispose]: close };
  } catch (error) {
    closeFd(file.fd);
    throw error;
  }
}

async function foreignFormat(
  { fd }: AllowedFile,
  stated: DiskFormat | ForeignFormat | undefined,
): Promise<ForeignFormat | undefined> {
  const format = stated ?? sniff(await readAt(fd, new Uint8Array(sniffBytes), 0));
  return isForeign(format) ? format : undefined;
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
