/** What can go wrong in this room; status.ts maps each to its gRPC code. */
export type PluginErrorCode =
  /** Malformed: a configuration, a request, a task handle, an argument. */
  | 'invalid'
  /** No task of that id. */
  | 'not-found'
  /** There is a task of that id already. */
  | 'exists'
  /** Not now: the task is in the wrong state, or the start was cancelled or took too long. */
  | 'state'
  /** This driver does not do that. */
  | 'unsupported'
  /** The part that runs VMs could not be made ready on this host. */
  | 'host';

/** `recoverable`: trying again may help. */
export class PluginError extends Error {
  override readonly name = 'PluginError';
  readonly code: PluginErrorCode;
  readonly recoverable: boolean;
  constructor(
    code: PluginErrorCode,
    message: string,
    options: ErrorOptions & { readonly recoverable?: boolean } = {},
  ) {
    super(message, options);
    this.code = code;
    this.recoverable = options.recoverable ?? false;
  }
}

/** The text that Go drivers use; people search for it. */
export function taskNotFound(): PluginError {
  return new PluginError('not-found', 'task not found for given id');
}
