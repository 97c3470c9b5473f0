import { maxQcow2Bytes, type OpenImage } from '#image';
import { type DiskFormat, type DiskSpec, diskKey, wholeSectors } from '#spec';
import { VmError } from '../error.ts';

const MiB = 1024 * 1024;

export interface DiskPlan {
  /**
   * `overlay`: holds what differs from its image; `copy`: a private copy of the image; `image`: the image itself, only
   * read; `empty`: a new disk.
   */
  readonly kind: 'overlay' | 'copy' | 'image' | 'empty';
  readonly format: DiskFormat;
  /** Format of the overlay's base; undefined for the other kinds. */
  readonly base: DiskFormat | undefined;
  readonly virtualBytes: number;
  /** A copied qcow2 is grown by QEMU itself before the guest runs. */
  readonly growBeforeBoot: boolean;
  /** Maximum length of the disk's file. */
  readonly maxFileBytes: number;
}

export type ImageFacts = Pick<OpenImage, 'format' | 'virtualBytes' | 'fileBytes'>;

/** Decides how a disk is created from an image, or empty. Throws VmError where the image does not fit. */
export function planDisk(spec: DiskSpec, image: ImageFacts | undefined): DiskPlan {
  if (image === undefined) return planEmpty(spec);
  const virtualBytes = spec.sizeBytes ?? image.virtualBytes;
  if (virtualBytes < image.virtualBytes) throw tooSmall(spec, virtualBytes, image.virtualBytes);
  if (spec.readOnly) return planReadOnly(spec, image, virtualBytes);
  const kind = spec.chained ? 'overlay' : 'copy';
  const format = spec.chained ? 'qcow2' : image.format;
  return {
    kind,
    format,
    base: spec.chained ? image.format : undefined,
    virtualBytes,
    growBeforeBoot: kind === 'copy' && format === 'qcow2' && virtualBytes > image.virtualBytes,
    maxFileBytes: fileBytesOf(kind, format, virtualBytes, image.fileBytes),
  };
}

function planEmpty(spec: DiskSpec): DiskPlan {
  const { sizeBytes, format = 'qcow2' } = spec;
  if (sizeBytes === undefined) {
    throw new VmError('job', `${diskKey(spec, 'size')} is required for a disk without a source`);
  }
  const virtualBytes = wholeSectors(sizeBytes);
  return {
    kind: 'empty',
    format,
    base: undefined,
    virtualBytes,
    growBeforeBoot: false,
    maxFileBytes: fileBytesOf('empty', format, virtualBytes, 0),
  };
}

/** Nothing is ever written, so the image itself serves. */
function planReadOnly(spec: DiskSpec, image: ImageFacts, virtualBytes: number): DiskPlan {
  if (virtualBytes !== image.virtualBytes) {
    const text = `a read-only disk has the size of its source, ${sizeText(image.virtualBytes)}`;
    throw new VmError('job', `${diskKey(spec, 'size')}: ${text}; leave it out`);
  }
  const { format, fileBytes: maxFileBytes } = image;
  return {
    kind: 'image',
    format,
    base: undefined,
    virtualBytes,
    growBeforeBoot: false,
    maxFileBytes,
  };
}

function tooSmall(spec: DiskSpec, bytes: number, neededBytes: number): VmError {
  const name = spec.source?.kind === 'image' ? `image ${spec.source.image}` : 'source';
  const needed = `${Math.ceil(neededBytes / MiB)} MiB`;
  return new VmError(
    'job',
    `${diskKey(spec, 'size')} ${sizeText(bytes)} is smaller than the ${name}, which has ${needed}`,
  );
}

function sizeText(bytes: number): string {
  return bytes % MiB === 0 ? `${bytes / MiB} MiB` : `${bytes} bytes`;
}

/**
 * Maximum length of a disk's file. A copy in qcow2 may get a new cluster for each one of the disk while the image's own
 * clusters stay (compressed clusters are never written to).
 */
export function fileBytesOf(
  kind: DiskPlan['kind'],
  format: DiskFormat,
  virtualBytes: number,
  imageBytes: number,
): number {
  if (format === 'raw') return virtualBytes;
  return maxQcow2Bytes(virtualBytes + (kind === 'copy' ? imageBytes : 0));
}
