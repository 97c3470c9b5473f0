import { closeSync, constants, openSync } from 'node:fs';

/**
 * Lets the readers of a task's log pipes go when nothing will ever be written: Nomad's log collector waits for a first
 * writer, and the end of a failed task waits two seconds for each pipe that had none. Never blocks, never fails.
 */
export function releaseLogPipes(paths: readonly string[]): void {
  // Without a reader this is ENXIO; a link is not followed, since a task's neighbours may write to that directory.
  const flags = constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
  for (const path of paths) {
    try {
      closeSync(openSync(path, flags));
    } catch {
      // Nobody waits there.
    }
  }
}
