import { copyImage, createEmpty, growRaw, imageHandler, type OpenImage } from '#image';
import type { DiskSpec, Waiting } from '#spec';
import type { Site } from '../devices/device.ts';
import { allocate } from '../store/allocate.ts';
import { copyEvents } from './import-events.ts';
import type { DiskPlan } from './plan.ts';

/** Makes an empty file, open for reading and writing, the disk of the plan. */
export async function writeContent(
  fd: number,
  {
    path,
    spec: { sparse },
    image,
    plan: { kind, format, virtualBytes, maxFileBytes },
  }: {
    /** For messages. */
    readonly path: string;
    readonly spec: Pick<DiskSpec, 'sparse'>;
    readonly image: OpenImage | undefined;
    readonly plan: DiskPlan;
  },
  { emit }: Site,
  waiting: Waiting,
): Promise<void> {
  if (image === undefined) {
    createEmpty({ fd, format, virtualBytes });
  } else if (kind === 'overlay') {
    imageHandler.createThinCopy({ fd, base: image, virtualBytes });
  } else {
    const onProgress = copyEvents('Copying the image', image.path, emit);
    await copyImage(image, fd, { ...waiting, onProgress });
    if (format === 'raw') growRaw(fd, virtualBytes);
  }
  if (!sparse) await allocate(fd, { path, bytes: maxFileBytes });
}
