import { constants, fstatSync } from 'node:fs';
import { closeFd, type Logger, reopen, withBeneath } from '#host';
import { messageOf } from '../error.ts';

/**
 * Where one of a task's log FIFOs is: in its allocation's directory, which the allocation's other tasks write to as
 * well.
 */
export interface LogPipe {
  readonly path: string;
  readonly allocDir: string;
}

/** One of Nomad's log FIFOs, opened so that no access to it blocks. */
export interface LogSink {
  /** Ours: read-write, so that it can be opened and keeps data even without a reader; non-blocking. */
  readonly fd: number;
  /** QEMU's: write-only and never used, so that the reader sees no end of file while the VM runs. */
  readonly held: number;
}

/**
 * Opens a log FIFO without waiting for its reader. Undefined when there is none (log collection is off), or when the
 * path has another type or leads out of the allocation.
 */
export function openLogSink(pipe: LogPipe, log: Logger): LogSink | undefined {
  const { path } = pipe;
  if (path === '/dev/null') return undefined;
  try {
    const sink = withFifo(pipe, (fifo) => {
      const fd = reopen(fifo, constants.O_RDWR | constants.O_NONBLOCK);
      try {
        // Opens without waiting: our own descriptor above counts as a reader.
        return { fd, held: reopen(fifo, constants.O_WRONLY | constants.O_NONBLOCK) };
      } catch (error) {
        closeFd(fd);
        throw error;
      }
    });
    if (sink === undefined) {
      log.warn('log path is not a pipe; nothing is written to it', { path });
    }
    return sink;
  } catch (error) {
    log.debug('log pipe not opened', { path, error: messageOf(error) });
    return undefined;
  }
}

/**
 * Ends the wait of a task's log readers when nothing will be written: Nomad's log collector waits for a first writer,
 * and the end of a failed task waits two seconds for each pipe that had none. Never blocks, never fails.
 */
export function releaseLogPipes(paths: readonly string[], allocDir: string): void {
  for (const path of paths) {
    try {
      // Fails with ENXIO when there is no reader.
      withFifo({ path, allocDir }, (fifo) =>
        closeFd(reopen(fifo, constants.O_WRONLY | constants.O_NONBLOCK)),
      );
    } catch {
      // No reader waits.
    }
  }
}

/**
 * Calls `use` with the file at the path when it is a FIFO. Its type is checked before it is opened: opening a device
 * that another task put there could have side effects. Throws HostError when the file does not exist or the path leads
 * out of the allocation.
 */
function withFifo<T>({ path, allocDir }: LogPipe, use: (fifo: number) => T): T | undefined {
  return withBeneath(allocDir, path, constants.O_NOFOLLOW, (found) =>
    fstatSync(found).isFIFO() ? use(found) : undefined,
  );
}
