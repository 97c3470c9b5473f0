import type { ImportProgress } from '#image';
import type { Site } from '../devices/device.ts';

const everyMs = 5000;

/** Reports the progress of an import as events of its task: its beginning, then at most one every 5 s. */
export function importEvents(
  image: string,
  emit: Site['emit'],
): (progress: ImportProgress) => void {
  let dueMs = 0;
  return ({ step, percent }) => {
    if (performance.now() < dueMs) return;
    dueMs = performance.now() + everyMs;
    emit('Importing the image', { image, step, percent: String(percent) });
  };
}
