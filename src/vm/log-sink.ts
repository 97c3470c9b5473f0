import { constants, fstatSync } from 'node:fs';
import { closeFd, type Logger, openPath } from '#host';
import { messageOf } from './error.ts';

/** One of Nomad's log FIFOs, opened so that nothing ever blocks on it. */
export interface LogSink {
  /** Ours: read-write, so that opening works and data waits even while nobody reads; non-blocking. */
  readonly fd: number;
  /** QEMU's: write-only, only to be held, so that the reader meets no end of file while the VM lives. */
  readonly held: number;
}

/**
 * Opens a log FIFO without following links and without waiting for its reader. Undefined when there is none (log
 * collection is off) or when the path holds something else: a task's directory may be written to by its neighbours.
 */
export function openLogSink(path: string, log: Logger): LogSink | undefined {
  const flags = constants.O_NONBLOCK | constants.O_NOFOLLOW;
  let fd: number;
  try {
    fd = openPath(path, constants.O_RDWR | flags);
  } catch (error) {
    log.debug('no log pipe to write to', { path, reason: messageOf(error) });
    return undefined;
  }
  try {
    if (!fstatSync(fd).isFIFO()) {
      if (path !== '/dev/null')
        log.warn('log path is not a pipe; nothing is written to it', { path });
      closeFd(fd);
      return undefined;
    }
    // Opens at once: our own descriptor above counts as a reader.
    return { fd, held: openPath(path, constants.O_WRONLY | flags) };
  } catch (error) {
    closeFd(fd);
    log.warn('log pipe could not be opened', { path, reason: messageOf(error) });
    return undefined;
  }
}
