export { copyImage, growRaw } from './copy.ts';
export { ImageError, type ImageErrorCode } from './error.ts';
export { type BootKind, bootKind } from './first-sectors.ts';
export {
  type ImageFormat,
  OpenImage,
  type OpenImageOptions,
  openImage,
  readBytes,
} from './open-image.ts';
export { createOverlay, type OverlayOptions } from './overlay.ts';
export { inspectQcow2, type Qcow2Inspection } from './qcow2.ts';
export type { ImageRoots } from './roots.ts';
export { type FileFormat, sniff } from './sniff.ts';
