export { copyImage, growRaw } from './copy.ts';
export { ImageError } from './error.ts';
export { bootKind } from './first-sectors.ts';
export { imageHandler } from './image-handler.ts';
export {
  OpenImage,
  readBytes,
} from './open-image.ts';
export { createEmpty } from './overlay.ts';
export type { ImageRoots } from './roots.ts';
