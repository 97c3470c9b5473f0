/** How long a caller waits: the last parameter of every function that can wait. A deadline is a signal too. */
export interface Waiting {
  readonly signal: AbortSignal;
}
