import { fdatasync } from 'node:fs';
import { promisify } from 'node:util';
import { zeroOut } from '#host';
import { type Copying, chunksOfData, percentOf } from './copy.ts';
import { checkWaiting, ImageError, step } from './error.ts';
import type { OpenImage } from './open-image.ts';
import { readAt, writeAt } from './positional.ts';

const sync = promisify(fdatasync);
const MiB = 1024 * 1024;
/** What is written last: while it is zero, the device counts as blank. */
const firstBytes = MiB;
const zeroStepBytes = 64 * MiB;

/** Whether nothing was ever written to the start of a block device, where every disk has its partitions or its file system. */
export async function isBlank(fd: number): Promise<boolean> {
  return step('reading the start of the device', async () => isZero(await start(fd)));
}

/**
 * Writes a raw image to a block device that is large enough. The first MiB is written when the rest is on the device:
 * one that was interrupted is still blank, and is written again. Throws ImageError.
 */
export async function writeToDevice(
  image: OpenImage,
  fd: number,
  { onProgress, ...waiting }: Copying,
): Promise<void> {
  const what = `writing ${image.path} to the device`;
  await step(what, async () => {
    const first = await start(image.fd);
    if (isZero(first)) {
      throw new ImageError(
        'refused',
        `${image.path} is refused: its first MiB is empty, as that of a device that was never written`,
      );
    }
    for (let at = 0; at < image.virtualBytes; at += zeroStepBytes) {
      checkWaiting(what, waiting.signal);
      await zeroOut(fd, at, Math.min(zeroStepBytes, image.virtualBytes - at));
    }
    const buffer = Buffer.alloc(2 * MiB);
    for await (const { start: at, end } of chunksOfData(image)) {
      checkWaiting(what, waiting.signal);
      onProgress?.(percentOf(at, image));
      const chunk = await readAt(image.fd, buffer.subarray(0, end - at), at);
      const skipped = Math.max(0, firstBytes - at);
      if (skipped < chunk.length) await writeAt(fd, chunk.subarray(skipped), at + skipped);
    }
    await sync(fd);
    await writeAt(fd, first, 0);
    await sync(fd);
  });
}

async function start(fd: number): Promise<Uint8Array> {
  return readAt(fd, new Uint8Array(firstBytes), 0);
}

function isZero(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, Buffer.alloc(bytes.length)) === 0;
}
