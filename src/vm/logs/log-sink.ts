import { constants, fstatSync } from 'node:fs';
import { relative } from 'node:path';
import { closeFd, type Logger, openBeneath, openPath, pathOnly, reopen } from '#host';
import { messageOf } from '../error.ts';

/** Where one of a task's log FIFOs is: inside its allocation's directory, where its neighbours write as well. */
export interface LogPipe {
  readonly path: string;
  readonly allocDir: string;
}

/** One of Nomad's log FIFOs, opened so that nothing ever blocks on it. */
export interface LogSink {
  /** Ours: read-write, so that opening works and data waits even while nobody reads; non-blocking. */
  readonly fd: number;
  /** QEMU's: write-only, only to be held, so that the reader meets no end of file while the VM lives. */
  readonly held: number;
}

/**
 * Opens a log FIFO without waiting for its reader. Undefined when there is none (log collection is off), or when the
 * path holds something else or leads out of the allocation.
 */
export function openLogSink(pipe: LogPipe, log: Logger): LogSink | undefined {
  const { path } = pipe;
  if (path === '/dev/null') return undefined;
  try {
    const sink = withFifo(pipe, (fifo) => {
      const fd = reopen(fifo, constants.O_RDWR | constants.O_NONBLOCK);
      try {
        // Opens at once: our own descriptor above counts as a reader.
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
    log.debug('no log pipe to write to', { path, error: messageOf(error) });
    return undefined;
  }
}

/**
 * Lets the readers of a task's log pipes go when nothing will ever be written: Nomad's log collector waits for a first
 * writer, and the end of a failed task waits two seconds for each pipe that had none. Never blocks, never fails.
 */
export function releaseLogPipes(paths: readonly string[], allocDir: string): void {
  for (const path of paths) {
    try {
      // Without a reader this is ENXIO.
      withFifo({ path, allocDir }, (fifo) =>
        closeFd(reopen(fifo, constants.O_WRONLY | constants.O_NONBLOCK)),
      );
    } catch {
      // Nobody waits there.
    }
  }
}

/**
 * Hands over what is at the path when it is a FIFO. It is looked at before it is opened: a device that a neighbour put
 * there would act on being opened. Throws HostError when nothing is there, or a way that leads out of the allocation.
 */
function withFifo<T>({ path, allocDir }: LogPipe, use: (fifo: number) => T): T | undefined {
  const root = openPath(allocDir, pathOnly | constants.O_DIRECTORY);
  try {
    const found = openBeneath(root, relative(allocDir, path), pathOnly | constants.O_NOFOLLOW);
    try {
      return fstatSync(found).isFIFO() ? use(found) : undefined;
    } finally {
      closeFd(found);
    }
  } finally {
    closeFd(root);
  }
}
