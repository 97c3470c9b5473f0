/**
 * - `not-found`: no such file where it may be.
 * - `not-allowed`: the name leads outside the allowed directories, or a hard link may do so.
 * - `not-regular`: a directory, device, FIFO or socket.
 * - `refused`: the content is no disk that we hand to an emulator.
 * - `too-large`, `too-small`: sizes that do not fit together.
 * - `io`: the system failed, or the wait was given up; see the cause.
 */
export type ImageErrorCode =
  | 'not-found'
  | 'not-allowed'
  | 'not-regular'
  | 'refused'
  | 'too-large'
  | 'too-small'
  | 'io';

/** Everything that goes wrong with a disk file. The message names the file. */
export class ImageError extends Error {
  override readonly name = 'ImageError';
  readonly code: ImageErrorCode;

  constructor(code: ImageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Runs one step of work on files; whatever the system throws in it becomes `io`, with the step named. */
export async function step<T>(what: string, run: () => T | Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (cause) {
    throw asImageError(what, cause);
  }
}

/** The same for work that does not wait. */
export function stepSync<T>(what: string, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    throw asImageError(what, cause);
  }
}

/** Throws `io` when the signal has given up on the work. */
export function checkWaiting(what: string, signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw new ImageError('io', `${what} was given up`, { cause: signal.reason });
}

function asImageError(what: string, cause: unknown): ImageError {
  if (cause instanceof ImageError) return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new ImageError('io', `${what}: ${reason}`, { cause });
}
