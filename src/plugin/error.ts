/** What can go wrong in this room; status.ts says which gRPC code each becomes. */
export type PluginErrorCode =
  /** The operator's or the job's configuration. */
  | 'config'
  /** A request that makes no sense: a part is missing or malformed. */
  | 'request'
  /** No task of that id. */
  | 'not-found'
  /** A task of that id is there already. */
  | 'exists'
  /** Not now: the task is in the wrong state, or the start was called off or took too long. */
  | 'state'
  /** This driver does not do that. */
  | 'unsupported'
  /** A task handle that can't be read. */
  | 'handle'
  /** The part that runs VMs could not be made ready on this host. */
  | 'backend';

/** `recoverable` says whether trying again may help. */
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

/** The words Go drivers use; people search for them. */
export function taskNotFound(): PluginError {
  return new PluginError('not-found', 'task not found for given id');
}
