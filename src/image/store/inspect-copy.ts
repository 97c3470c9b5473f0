import { constants } from 'node:fs';
import { closeAside, openAside, statAside } from '#host';
import type { DiskFormat, ForeignFormat } from '#spec';
import { inspectForeign } from '../convert/foreign.ts';
import { ImageError } from '../error.ts';
import { checkDiskFile } from '../open-image.ts';
import { otherFile } from '../other-file.ts';
import { readAt } from '../positional.ts';
import { type FileFormat, refusalOf, sniff, sniffBytes } from '../sniff.ts';
import type { NamedFile } from './checksums.ts';

interface Inspected {
  /** For messages: what the copy was made of. */
  readonly file: NamedFile;
  /** undefined: recognised by the content. */
  readonly format?: DiskFormat | ForeignFormat | undefined;
}

/** The format, and the size by the header, of the copy of a file. Throws ImageError for what no QEMU program gets. */
export async function inspectCopy(
  { file, format }: Inspected,
  path: string,
): Promise<{ readonly format: DiskFormat | ForeignFormat; readonly virtualBytes: number }> {
  const fd = await openAside(path, constants.O_RDONLY);
  try {
    const head = await readAt(fd, Buffer.alloc(sniffBytes), 0);
    const found = recognise(file, head, format);
    const stats = await statAside(fd);
    const other = found === 'raw' ? await otherFile({ fd, stats }, head) : undefined;
    if (other !== undefined) {
      throw new ImageError('refused', `${file.path} is refused: ${other}`);
    }
    if (found === 'raw' || found === 'qcow2') return await inspectOwn(file, path, found);
    const { virtualBytes, problems } = await inspectForeign(found, {
      fileBytes: stats.size,
      read: async (offset, bytes) => Buffer.from(await readAt(fd, Buffer.alloc(bytes), offset)),
    });
    if (problems.length === 0) return { format: found, virtualBytes };
    throw new ImageError('refused', `${file.path} is refused as ${found}: ${problems.join('; ')}`);
  } finally {
    await closeAside(fd);
  }
}

async function inspectOwn({ path: name }: NamedFile, path: string, format: DiskFormat) {
  const fd = await openAside(path, constants.O_RDONLY);
  const limits = { maxVirtualBytes: Number.MAX_SAFE_INTEGER, format };
  using image = await checkDiskFile({ fd, path: name }, limits);
  return { format, virtualBytes: image.virtualBytes };
}

/** A fixed VHD has no mark at its start; any other format that the job states is that of the mark. */
function recognise(
  file: NamedFile,
  head: Uint8Array,
  stated: Inspected['format'],
): DiskFormat | ForeignFormat {
  const seen = sniff(head);
  if (stated === undefined) return supported(file, seen);
  if (seen === stated || (seen === 'raw' && stated === 'vpc')) return stated;
  throw new ImageError('refused', `${file.path} contains a disk that is ${seen}, not ${stated}`);
}

function supported({ path }: NamedFile, format: FileFormat): DiskFormat | ForeignFormat {
  switch (format) {
    case 'raw':
    case 'qcow2':
    case 'vmdk':
    case 'vdi':
    case 'vhdx':
    case 'vpc':
      return format;
    default:
      throw new ImageError('refused', `${path} is refused: ${refusalOf(format)}`);
  }
}
