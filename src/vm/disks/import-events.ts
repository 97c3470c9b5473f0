import type { ImportProgress } from '#image';
import type { Site } from '../devices/device.ts';

const everyMs = 5000;

/** Reports the progress of an import as events of its task: its beginning, then at most one every 5 s. */
export function importEvents(
  image: string,
  emit: Site['emit'],
): (progress: ImportProgress) => void {
  const isDue = atIntervals();
  return ({ step, percent }) => {
    if (isDue()) emit('Importing the image', { image, step, percent: String(percent) });
  };
}

/** The same for an image that is copied as it is. `message` is that of the events. */
export function copyEvents(
  message: string,
  image: string,
  emit: Site['emit'],
): (percent: number) => void {
  const isDue = atIntervals();
  const report = (percent: number): void => {
    if (isDue()) emit(message, { image, percent: String(percent) });
  };
  // A copy may end before there is any progress.
  report(0);
  return report;
}

function atIntervals(): () => boolean {
  let dueMs = 0;
  return () => {
    if (performance.now() < dueMs) return false;
    dueMs = performance.now() + everyMs;
    return true;
  };
}
