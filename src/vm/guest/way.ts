import type { Waiting } from '#spec';
import { VmError } from '../error.ts';
import type { ExecRequest, GuestCommand } from '../virtualizer.ts';

/** A way to run commands in one VM's guest. */
export interface CommandWay {
  /** Throws WayMissing that names what the guest lacks for it; else VmError. */
  start(request: ExecRequest, waiting: Waiting): Promise<GuestCommand>;
  /** Ends the commands that an earlier plugin process left in the guest. Those to be started wait for it. */
  recover(waiting: Waiting): void;
  /** Ends the commands that run in the guest, and what they keep open there. Throws the signal's reason. */
  end(waiting: Waiting): Promise<void>;
}

/** A way that this guest does not have at the moment: another one may be tried, for the command has not begun. */
export class WayMissing extends VmError {
  constructor(message: string, options: ErrorOptions & { readonly recoverable?: boolean } = {}) {
    super('host', message, options);
  }
}
