import { extension } from './qcow2.ts';

/** A new qcow2 file: these pieces, and zeros (holes) up to `fileBytes`. */
export interface OverlayLayout {
  readonly pieces: readonly { readonly offset: number; readonly bytes: Uint8Array }[];
  readonly fileBytes: number;
}

export interface OverlayRequest {
  /** The absolute path that the header names, and its format; undefined: a disk of zeros. */
  readonly base?: { readonly path: string; readonly format: 'raw' | 'qcow2' };
  /** A multiple of 512. */
  readonly virtualBytes: number;
}

/** QEMU's limit for the name in a header (block/qcow2.c). */
export const maxBasePathBytes = 1023;

const clusterBits = 16;
const clusterBytes = 2 ** clusterBits;
const headerBytes = 112;
/** What one L2 table maps, and so one L1 entry: 8192 clusters. */
const bytesPerL1Entry = (clusterBytes / 8) * clusterBytes;

/** Maximum size of a disk: QEMU accepts an L1 table of up to 32 MiB. */
export const maxOverlayBytes = (32 * 1024 * 1024 * bytesPerL1Entry) / 8;

/**
 * Lays out an empty qcow2 version 3 file, or overlay: header, refcount table, one refcount block, L1 table, a cluster each
 * but for the L1 table. The one block counts 32768 clusters, far more than the L1 table of any disk has.
 */
export function layOutOverlay(request: OverlayRequest): OverlayLayout {
  const l1Entries = Math.max(1, Math.ceil(request.virtualBytes / bytesPerL1Entry));
  const l1Clusters = Math.ceil((l1Entries * 8) / clusterBytes);
  const clusters = 3 + l1Clusters;
  return {
    pieces: [
      { offset: 0, bytes: header(request, l1Entries) },
      { offset: clusterBytes, bytes: refcountTable() },
      { offset: 2 * clusterBytes, bytes: refcounts(clusters) },
    ],
    fileBytes: clusters * clusterBytes,
  };
}

function header({ base, virtualBytes }: OverlayRequest, l1Entries: number) {
  const name = new TextEncoder().encode(base?.path);
  const extensions = base === undefined ? new Uint8Array(8) : baseFormatExtension(base.format);
  const nameOffset = headerBytes + extensions.length;
  const bytes = new Uint8Array(nameOffset + name.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x514649fb); // "QFI\xfb"
  view.setUint32(4, 3); // version
  view.setBigUint64(8, base === undefined ? 0n : BigInt(nameOffset));
  view.setUint32(16, name.length);
  view.setUint32(20, clusterBits);
  view.setBigUint64(24, BigInt(virtualBytes));
  view.setUint32(36, l1Entries);
  view.setBigUint64(40, BigInt(3 * clusterBytes)); // L1 table
  view.setBigUint64(48, BigInt(clusterBytes)); // refcount table
  view.setUint32(56, 1); // its clusters
  view.setUint32(96, 4); // refcounts of 2^4 bits
  view.setUint32(100, headerBytes);
  bytes.set(extensions, headerBytes);
  bytes.set(name, nameOffset);
  return bytes;
}

function baseFormatExtension(format: string): Uint8Array {
  const name = new TextEncoder().encode(format);
  const padded = Math.ceil(name.length / 8) * 8;
  const bytes = new Uint8Array(8 + padded + 8); // and the end mark, which is all zeros
  const view = new DataView(bytes.buffer);
  view.setUint32(0, extension.backingFormat);
  view.setUint32(4, name.length);
  bytes.set(name, 8);
  return bytes;
}

function refcountTable(): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(2 * clusterBytes));
  return bytes;
}

function refcounts(clusters: number): Uint8Array {
  const bytes = new Uint8Array(2 * clusters);
  for (let at = 1; at < bytes.length; at += 2) bytes[at] = 1; // big-endian 16-bit ones
  return bytes;
}
