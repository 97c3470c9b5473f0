import { copyImage, createEmpty, growRaw, imageHandler, type OpenImage } from '#image';
import { type DiskSpec, diskKey, type Waiting } from '#spec';
import type { Site } from '../devices/device.ts';
import { withVmError } from '../error.ts';
import { allocate } from '../store/allocate.ts';
import { copyEvents } from './import-events.ts';
import type { DiskPlan } from './plan.ts';

/** Makes an empty file, open for reading and writing, the disk of the plan. */
export async function writeContent(
  fd: number,
  {
    path,
    spec,
    image,
    plan: { kind, format, virtualBytes, maxFileBytes },
  }: {
    /** For messages. */
    readonly path: string;
    readonly spec: Pick<DiskSpec, 'block' | 'key' | 'source' | 'sparse'>;
    readonly image: OpenImage | undefined;
    readonly plan: DiskPlan;
  },
  { emit }: Site,
  waiting: Waiting,
): Promise<void> {
  if (image === undefined) {
    await createEmpty({ fd, format, virtualBytes });
  } else if (kind === 'overlay') {
    await imageHandler.createThinCopy({ fd, base: image, virtualBytes });
  } else {
    const onProgress = copyEvents('Copying the image', image.path, emit);
    const key = spec.source?.kind === 'volume' ? 'source.volume' : 'source.image';
    // A file system that is full is that of the disk.
    await withVmError(
      () => copyImage(image, fd, { ...waiting, onProgress }),
      `${diskKey(spec, key)}: creating ${path}`,
    );
    if (format === 'raw') await growRaw(fd, virtualBytes);
  }
  if (!spec.sparse) await allocate(fd, { path, bytes: maxFileBytes });
}
