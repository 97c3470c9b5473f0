import { fstatSync, ftruncateSync, writeSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import { ImageError, stepSync } from './error.ts';
import type { ImageFormat } from './open-image.ts';
import { layOutOverlay, maxBasePathBytes, maxOverlayBytes } from './overlay-layout.ts';

export interface OverlayOptions {
  /** An empty file, open for reading and writing. */
  readonly fd: number;
  /** The base, such as an OpenImage. QEMU gets its descriptor and its format on the command line as well. */
  readonly base: {
    readonly path: string;
    readonly format: ImageFormat;
    readonly virtualBytes: number;
  };
  /** The disk's size; rounded up to 512. ImageError `refused` when the base does not fit. */
  readonly virtualBytes: number;
}

/**
 * Makes the file a qcow2 overlay of the base: three small writes, without running a program (0.1 ms). The base is named
 * by its absolute path and its stated format. Throws ImageError.
 */
export function createOverlay({ fd, base, virtualBytes }: OverlayOptions): void {
  const rounded = Math.ceil(virtualBytes / 512) * 512;
  checkRequest(base, rounded);
  const { pieces, fileBytes } = layOutOverlay({
    basePath: base.path,
    baseFormat: base.format,
    virtualBytes: rounded,
  });
  stepSync(`writing the overlay of ${base.path}`, () => {
    if (fstatSync(fd).size !== 0) throw new ImageError('io', 'an overlay needs an empty file');
    ftruncateSync(fd, fileBytes);
    for (const { offset, bytes } of pieces) writeAll(fd, bytes, offset);
  });
}

function checkRequest(base: OverlayOptions['base'], virtualBytes: number): void {
  if (!isAbsolute(base.path) || Buffer.byteLength(base.path) > maxBasePathBytes) {
    const text = `${base.path} can't be the base of an overlay: it must be an absolute path of at most ${maxBasePathBytes} bytes`;
    throw new ImageError('refused', text);
  }
  if (virtualBytes < base.virtualBytes) {
    const text = `image ${base.path} has ${base.virtualBytes} bytes and does not fit a disk of ${virtualBytes}`;
    throw new ImageError('refused', text);
  }
  if (virtualBytes > maxOverlayBytes) {
    throw new ImageError('refused', `a disk of ${virtualBytes} bytes is more than qcow2 can hold`);
  }
}

function writeAll(fd: number, bytes: Uint8Array, offset: number): void {
  let written = 0;
  while (written < bytes.length) {
    written += writeSync(fd, bytes, written, bytes.length - written, offset + written);
  }
}
