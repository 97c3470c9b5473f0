/** Until when a caller waits: the last parameter of what can wait. A deadline is a signal too. */
export interface Waiting {
  readonly signal: AbortSignal;
}
