export type { ImageRoots } from './allow-list.ts';
export { copyImage, growRaw } from './copy.ts';
export { isBlank, writeToDevice } from './device.ts';
export { ImageError } from './error.ts';
export { FatDirectory } from './fat/directory.ts';
export { bootKind, type FirstSectors } from './first-sectors.ts';
export { imageHandler } from './image-handler.ts';
export {
  checkDiskFile,
  markedFormat,
  OpenImage,
  readBytes,
} from './open-image.ts';
export { createEmpty } from './overlay.ts';
export { PlainFile } from './plain-file.ts';
export { maxQcow2Bytes, maxQcow2TableBytes } from './qcow2.ts';

export { type FoundImage, findImage } from './store/find-image.ts';
export { ImageStore, releaseImages } from './store/image-store.ts';
export type { ImportProgress } from './store/import-image.ts';
