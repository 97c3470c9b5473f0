/** A value can't be put into the seed without changing it. */
export class CloudInitError extends Error {
  override readonly name = 'CloudInitError';
}
