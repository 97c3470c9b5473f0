/**
 * - `refused`: the file is missing, outside the allowed directories, not a regular file, of a content that no emulator
 *   gets, or its size does not fit. It stays so until the job or the file is changed.
 * - `member`: as `refused`, for the file of an archive that the job names, or has to name.
 * - `io`: the system failed, or the caller stopped waiting; see the cause. Another attempt may succeed.
 */
export type ImageErrorCode = 'refused' | 'member' | 'io';

/** A disk file could not be used. The message names the file. */
export class ImageError extends Error {
  override readonly name = 'ImageError';
  readonly code: ImageErrorCode;

  constructor(code: ImageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Runs one step of work on files; an error of the system in it becomes `io`, with the step named. */
export async function step<T>(what: string, run: () => T | Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (cause) {
    throw asImageError(what, cause);
  }
}

/** Throws `io` when the signal has aborted. */
export function checkWaiting(what: string, signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw new ImageError('io', `${what} was cancelled`, { cause: signal.reason });
}

export function asImageError(what: string, cause: unknown): ImageError {
  if (cause instanceof ImageError) return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new ImageError('io', `${what}: ${reason}`, { cause });
}
