import type { Waiting } from '#spec';
import type { ImageRoots } from './allow-list.ts';
import { type OpenImage, type OpenImageOptions, openImage } from './open-image.ts';
import { createOverlay, type OverlayOptions } from './overlay.ts';

/**
 * Disk images as a driver needs them, by the names that Nomad's own virt driver has for it. There both methods take
 * paths and leave the format to qemu-img's guess. Here they work on opened files: a path may name another file a moment
 * later, and a guest can write any format's mark into its disk.
 */
export interface ImageHandler {
  /**
   * The image that a job names, opened and checked, with its `format`. Everything else is done with that very
   * descriptor, and QEMU gets it together with the format. Throws ImageError.
   */
  getImageFormat(
    name: string,
    roots: ImageRoots,
    options: OpenImageOptions,
    waiting: Waiting,
  ): Promise<OpenImage>;

  /** Makes an empty file a copy-on-write copy of the base, of the size given, with the base's format stated in it. Throws ImageError. */
  createThinCopy(copy: OverlayOptions): Promise<void>;
}

export const imageHandler: ImageHandler = {
  getImageFormat: openImage,
  createThinCopy: createOverlay,
};
