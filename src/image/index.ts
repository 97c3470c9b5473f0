export { copyImage, growRaw } from './copy.ts';
export { isBlank, writeToDevice } from './device.ts';
export { ImageError } from './error.ts';
export { bootKind } from './first-sectors.ts';
export { imageHandler } from './image-handler.ts';
export {
  checkDiskFile,
  OpenImage,
  readBytes,
} from './open-image.ts';
export { createEmpty } from './overlay.ts';
export type { ImageRoots } from './roots.ts';
