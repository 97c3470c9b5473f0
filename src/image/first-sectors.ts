import { constants, createInflateRaw, createZstdDecompress } from 'node:zlib';
import { step } from './error.ts';
import type { OpenImage } from './open-image.ts';
import { readAt } from './positional.ts';

const sectorBytes = 512;
/** The boot record and the GPT's header behind it. */
const wantedBytes = 2 * sectorBytes;

/** In an L1 or L2 entry: where the cluster begins (QEMU's docs/interop/qcow2.txt). */
const offsetMask = 0x00fffffffffffe00n;
const compressedFlag = 1n << 62n;
const zeroFlag = 1n;

/** Which firmware a disk needs, as far as its first two sectors show; `none`: no firmware boots from it; `cd`: only from a CD drive. */
export type BootKind = 'bios' | 'uefi' | 'cd' | 'none' | 'unknown';

/** The table of partitions in the boot record: four entries, the type of each in its fifth byte. */
const partitions = [446, 462, 478, 494];
const efiPartition = 0xef;

const known = new WeakMap<FirstSectors, Promise<BootKind>>();

/** The kind of disk, by one look at an image or device: a start asks several times. Throws ImageError `io`. */
export function bootKind(image: FirstSectors): Promise<BootKind> {
  const found = known.get(image) ?? lookAt(image);
  known.set(image, found);
  return found;
}

/**
 * `bios` where there is boot code, `uefi` where there is none before a GPT or in a boot record with an EFI partition,
 * `cd` or `none` where there is nothing of this, `unknown` where the sectors can't be found. An image for both kinds of firmware
 * is a `bios` one.
 */
async function lookAt(image: FirstSectors): Promise<BootKind> {
  const bytes = await step(`reading the first sectors of ${image.path}`, () => firstBytes(image));
  if (bytes.length < wantedBytes) return 'unknown';
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const hasRecord = view.readUInt16BE(510) === 0x55aa;
  if (hasRecord && view.subarray(0, 440).some((byte) => byte !== 0)) return 'bios';
  if (view.toString('latin1', sectorBytes, sectorBytes + 8) === 'EFI PART') return 'uefi';
  if (hasRecord && partitions.some((at) => view[at + 4] === efiPartition)) return 'uefi';
  return (await isCd(image)) ? 'cd' : 'none';
}

/** The first descriptor of ISO 9660 is in the 17th sector of 2048 bytes. */
async function isCd({ fd, format }: FirstSectors): Promise<boolean> {
  if (format !== 'raw') return false;
  const mark = await readAt(fd, new Uint8Array(6), 16 * 2048);
  return Buffer.from(mark).toString('latin1') === '\x01CD001';
}

/** What is read for it: an open image, or a device. */
export type FirstSectors = Pick<OpenImage, 'fd' | 'path' | 'format' | 'fileBytes'>;

/** What of a qcow2 image is needed to find its clusters. */
interface Clusters {
  readonly fd: number;
  readonly fileBytes: number;
  readonly clusterBits: number;
  readonly zstd: boolean;
}

/** Fewer than `wantedBytes` where the image is shorter, or broken. */
async function firstBytes({ fd, format, fileBytes }: FirstSectors): Promise<Uint8Array> {
  if (format === 'raw') return readAt(fd, new Uint8Array(wantedBytes), 0);
  const header = Buffer.from(await readAt(fd, new Uint8Array(112), 0));
  const zstd = header.length > 104 && header.readUInt32BE(4) === 3 && header[104] === 1;
  const clusters = { fd, fileBytes, clusterBits: header.readUInt32BE(20), zstd };
  const table = await entry(fd, Number(header.readBigUInt64BE(40)));
  if (!liesInside(table, fileBytes)) return nothing;
  const bytes = new Uint8Array(wantedBytes);
  const stride = Math.min(2 ** clusters.clusterBits, wantedBytes);
  for (let at = 0, index = 0; at < wantedBytes; at += stride, index++) {
    const cluster = await entry(fd, Number(table & offsetMask) + 8 * index);
    const start = await clusterStart(clusters, cluster, stride);
    if (start === undefined) return nothing;
    bytes.set(start, at);
  }
  return bytes;
}

const nothing = new Uint8Array();

async function entry(fd: number, offset: number): Promise<bigint> {
  const bytes = Buffer.from(await readAt(fd, new Uint8Array(8), offset));
  return bytes.length === 8 ? bytes.readBigUInt64BE(0) : 0n;
}

// Entries are not validated before: one may point anywhere in 2^56 bytes.
function liesInside(entry: bigint, fileBytes: number): boolean {
  const offset = entry & offsetMask;
  return offset !== 0n && offset < BigInt(fileBytes);
}

/** The first bytes of a cluster, or fewer that zeros follow; undefined when it can't be read. */
async function clusterStart(
  clusters: Clusters,
  cluster: bigint,
  bytes: number,
): Promise<Uint8Array | undefined> {
  if ((cluster & compressedFlag) !== 0n) return compressedStart(clusters, cluster, bytes);
  if ((cluster & zeroFlag) !== 0n || (cluster & offsetMask) === 0n) return nothing;
  if (!liesInside(cluster, clusters.fileBytes)) return undefined;
  return readAt(clusters.fd, new Uint8Array(bytes), Number(cluster & offsetMask));
}

/** A compressed cluster's descriptor: x bits of offset, then a count of sectors behind the first, x = 62 - (bits - 8). */
async function compressedStart(
  { fd, fileBytes, clusterBits, zstd }: Clusters,
  descriptor: bigint,
  bytes: number,
): Promise<Uint8Array | undefined> {
  const offsetBits = BigInt(62 - (clusterBits - 8));
  const offset = descriptor & ((1n << offsetBits) - 1n);
  if (offset >= BigInt(fileBytes)) return undefined;
  const sectors = Number((descriptor & (compressedFlag - 1n)) >> offsetBits) + 1;
  const length = sectors * sectorBytes - Number(offset % BigInt(sectorBytes));
  const packed = await readAt(fd, new Uint8Array(length), Number(offset));
  return unpackStart(packed, bytes, zstd);
}

// The window that every decoder of zstd should support (RFC 8878, 3.1.1.1.2): 8 MiB. A cluster needs at most 2 MiB.
const maxWindowLog = 23;

/** Unpacks only the first `bytes`: the rest of the last sector follows the data and is not part of it. */
async function unpackStart(
  packed: Uint8Array,
  bytes: number,
  zstd: boolean,
): Promise<Uint8Array | undefined> {
  // The output buffer is full before the decoder reaches the rest of the sector, which it would report as an error.
  const chunkSize = bytes;
  const params = { [constants.ZSTD_d_windowLogMax]: maxWindowLog };
  const stream = zstd
    ? createZstdDecompress({ chunkSize, params })
    : createInflateRaw({ chunkSize });
  stream.end(packed);
  try {
    for await (const chunk of stream) {
      return chunk instanceof Uint8Array && chunk.length === bytes ? chunk : undefined;
    }
    return undefined;
  } catch {
    return undefined;
  }
}
