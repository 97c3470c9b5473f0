import type { Waiting } from '#spec';
import { VmError } from '../error.ts';
import type { ExecRequest, GuestCommand } from '../virtualizer.ts';

export interface StartRequest extends ExecRequest {
  /** No other way works: it has the time that a slow guest needs. */
  readonly last?: boolean;
}

/** A way to run commands in one VM's guest. */
export interface CommandWay {
  /** Throws WayMissing that names what the guest lacks for it; else VmError. */
  start(request: StartRequest, waiting: Waiting): Promise<GuestCommand>;
  /** Ends the commands that an earlier plugin process left in the guest. Those to be started wait for it. */
  recover(waiting: Waiting): void;
  /** Ends the commands that run in the guest, and what they keep open there. Throws the signal's reason. */
  end(waiting: Waiting): Promise<void>;
  /** The guest boots again: what ran there is gone, and what its connections led to. */
  reset(): void;
}

export function guestWasReset(): VmError {
  return new VmError('host', 'the command was lost: the guest was reset');
}

/** A way that this guest does not have at the moment: another one may be tried, for the command has not begun. */
export class WayMissing extends VmError {
  /** It had less time than a slow guest needs. */
  readonly early: boolean;

  constructor(
    message: string,
    {
      early = false,
      ...options
    }: ErrorOptions & { readonly recoverable?: boolean; readonly early?: boolean } = {},
  ) {
    super('host', message, options);
    this.early = early;
  }
}
