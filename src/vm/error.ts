import { errnoOf, HostError } from '#host';
import { ImageError } from '#image';
import { NetError } from '#net';
import { QemuError } from '#qemu';

/**
 * - `job`: what the job asks for is wrong, here and on every other host.
 * - `host`: this host lacks something, or failed at something.
 * - `bug`: this driver has a fault.
 */
export type VmErrorCode = 'job' | 'host' | 'bug';

/** What went wrong with a VM, in sentences for the job's author or the operator. */
export class VmError extends Error {
  override readonly name: string = 'VmError';
  readonly code: VmErrorCode;
  /** Whether a retry, later or on another host, may succeed. */
  readonly recoverable: boolean;

  constructor(
    code: VmErrorCode,
    message: string,
    options: ErrorOptions & { readonly recoverable?: boolean } = {},
  ) {
    super(message, options);
    this.code = code;
    this.recoverable = options.recoverable ?? false;
  }
}

/** The VM belongs to another process of the plugin, which alone may end and remove it. */
export class OwnedElsewhereError extends VmError {
  override readonly name = 'OwnedElsewhereError';

  constructor(vm: string) {
    super('host', `VM ${vm} is managed by another plugin process`);
  }
}

/** What is asked of a QEMU to which there is no connection at the moment. */
export function notConnected(): VmError {
  return new VmError('host', "QEMU's monitor is not connected", { recoverable: true });
}

/** The message of a caught value, which need not be an Error. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Runs a step; its error becomes a VmError, prefixed with the key of the job that the step is about. */
export async function withVmError<T>(step: () => T | Promise<T>, key?: string): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw asVmError(error, key);
  }
}

/** An error of a room below as a VmError, with the code that it means for the job; a VmError is returned as it is. */
export function asVmError(cause: unknown, key?: string): VmError {
  if (cause instanceof VmError) return cause;
  const message = key === undefined ? messageOf(cause) : `${key}: ${messageOf(cause)}`;
  return new VmError(codeOf(cause), message, { cause, recoverable: isTransient(cause) });
}

function codeOf(cause: unknown): VmErrorCode {
  if (isBug(cause)) return 'bug';
  return isJobError(cause) ? 'job' : 'host';
}

/** An error that JavaScript or Node itself throws at wrong code; the system's errors carry an errno. */
export function isBug(error: unknown): boolean {
  const code = errnoOf(error);
  const isErrno = code !== undefined && !code.startsWith('ERR_');
  return (
    !isErrno &&
    [TypeError, RangeError, ReferenceError, SyntaxError].some((it) => error instanceof it)
  );
}

function isJobError(error: unknown): boolean {
  if (error instanceof ImageError) return error.code !== 'io';
  if (error instanceof QemuError) return error.code === 'unsupported';
  return error instanceof NetError && error.code === 'job';
}

/** Whether a retry may succeed: what a host lacks comes and goes, a wrong job stays wrong. */
function isTransient(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ('recoverable' in error) return error.recoverable === true;
  if (error instanceof ImageError) return error.code === 'io';
  return error instanceof HostError || error.name === 'TimeoutError';
}

/** One error for all problems; a single problem is returned as it is. */
export function combineErrors(problems: readonly VmError[]): VmError {
  const [first] = problems;
  if (first === undefined) throw new Error('no problem to report');
  if (problems.length === 1) return first;
  const codes = problems.map(({ code }) => code);
  const worst = (['job', 'bug'] as const).find((code) => codes.includes(code)) ?? 'host';
  return new VmError(worst, problems.map(messageOf).join('; '), {
    cause: new AggregateError(problems),
    recoverable: problems.every(({ recoverable }) => recoverable),
  });
}
