import { promisify } from 'node:util';
import { inflateRaw, zstdDecompress } from 'node:zlib';
import type { OpenImage } from './open-image.ts';
import { readAt } from './positional.ts';

const inflate = promisify(inflateRaw);
const unzstd = promisify(zstdDecompress);

const sectorBytes = 512;
/** The boot record and the GPT's header behind it. */
const wantedBytes = 2 * sectorBytes;

/** In an L1 or L2 entry: where the cluster begins (QEMU's docs/interop/qcow2.txt). */
const offsetMask = 0x00fffffffffffe00n;
const compressedFlag = 1n << 62n;
const zeroFlag = 1n;

/** How a disk wants to be started, as far as its first two sectors show. */
export type BootKind = 'bios' | 'uefi' | 'unknown';

/**
 * `uefi` where there is a GPT and no boot code before it, `bios` where there is boot code, `unknown` where there is
 * neither. An image for both kinds of firmware is a `bios` one.
 */
export async function bootKind(image: OpenImage): Promise<BootKind> {
  const bytes = await firstBytes(image);
  if (bytes.length < wantedBytes) return 'unknown';
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const hasCode = view.readUInt16BE(510) === 0x55aa && view.subarray(0, 440).some((it) => it !== 0);
  if (hasCode) return 'bios';
  return view.toString('latin1', sectorBytes, sectorBytes + 8) === 'EFI PART' ? 'uefi' : 'unknown';
}

async function firstBytes({ fd, format, fileBytes }: OpenImage): Promise<Uint8Array> {
  if (format === 'raw') return readAt(fd, new Uint8Array(wantedBytes), 0);
  const header = Buffer.from(await readAt(fd, new Uint8Array(112), 0));
  const clusterBits = header.readUInt32BE(20);
  const compressionType =
    header.length > 104 && header.readUInt32BE(4) === 3 ? (header[104] ?? 0) : 0;
  const l2 = await entry(fd, Number(header.readBigUInt64BE(40)));
  if (l2 === undefined || (l2 & offsetMask) === 0n) return new Uint8Array();
  // Entries are the image's own word: one may point anywhere in 2^56 bytes.
  if ((l2 & offsetMask) >= BigInt(fileBytes)) return new Uint8Array();
  const cluster = await entry(fd, Number(l2 & offsetMask));
  if (cluster === undefined) return new Uint8Array();
  if ((cluster & compressedFlag) !== 0n) {
    return readCompressed(fd, cluster, { clusterBits, fileBytes, zstd: compressionType === 1 });
  }
  if ((cluster & offsetMask) >= BigInt(fileBytes)) return new Uint8Array();
  if ((cluster & offsetMask) === 0n || (cluster & zeroFlag) !== 0n) return new Uint8Array();
  return readAt(fd, new Uint8Array(wantedBytes), Number(cluster & offsetMask));
}

async function entry(fd: number, offset: number): Promise<bigint | undefined> {
  const bytes = Buffer.from(await readAt(fd, new Uint8Array(8), offset));
  return bytes.length === 8 ? bytes.readBigUInt64BE(0) : undefined;
}

/** A compressed cluster's descriptor: x bits of offset, then a count of sectors behind the first, x = 62 - (bits - 8). */
async function readCompressed(
  fd: number,
  descriptor: bigint,
  {
    clusterBits,
    fileBytes,
    zstd,
  }: { readonly clusterBits: number; readonly fileBytes: number; readonly zstd: boolean },
): Promise<Uint8Array> {
  const offsetBits = BigInt(62 - (clusterBits - 8));
  const offset = descriptor & ((1n << offsetBits) - 1n);
  if (offset >= BigInt(fileBytes)) return new Uint8Array();
  const sectors = Number((descriptor & (compressedFlag - 1n)) >> offsetBits) + 1;
  const length = sectors * sectorBytes - Number(offset % BigInt(sectorBytes));
  const packed = await readAt(fd, new Uint8Array(length), Number(offset));
  const maxOutputLength = 2 ** clusterBits;
  try {
    // The stream ends inside its last sector; what follows belongs to somebody else.
    return await (zstd ? unzstd : inflate)(packed, { maxOutputLength });
  } catch {
    return new Uint8Array();
  }
}
