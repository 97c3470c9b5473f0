import { HostError } from '#host';
import { ImageError } from '#image';
import { QemuError } from '#qemu';

export type VmErrorCode =
  | 'spec'
  | 'emulator'
  | 'image'
  | 'seed'
  | 'network'
  | 'share'
  | 'host'
  | 'spawn'
  | 'boot'
  | 'recover'
  | 'stop'
  | 'taken'
  | 'destroy';

/** What went wrong with a VM, in the reader's words; `recoverable` says whether trying again may help. */
export class VmError extends Error {
  override readonly name = 'VmError';
  readonly code: VmErrorCode;
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

/** The text of whatever was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/**
 * Gives what is thrown in the work its meaning here, with the job's key that it is about; what has one already keeps it.
 */
export async function inWords<T>(
  code: VmErrorCode,
  work: () => T | Promise<T>,
  key?: string,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof VmError) throw error;
    if (error instanceof QemuError) throw asVmError(error);
    const message = key === undefined ? messageOf(error) : `${key}: ${messageOf(error)}`;
    throw new VmError(code, message, { cause: error, recoverable: mayPass(error) });
  }
}

/** What QEMU or this host lacks, as an error of the VM. */
export function asVmError(cause: QemuError): VmError {
  const { code, message, recoverable } = cause;
  return new VmError(code === 'unsupported' ? 'spec' : 'emulator', message, { cause, recoverable });
}

/** Whether what failed may work another time: the host's troubles come and go, a wrong job stays wrong. */
function mayPass(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ('recoverable' in error) return error.recoverable === true;
  if (error instanceof ImageError) return error.code === 'io';
  return error instanceof HostError || error.name === 'TimeoutError';
}

/** One error for everything that is wrong; the first of them when it is the only one. */
export function allProblems(problems: readonly unknown[]): unknown {
  const [first] = problems;
  if (problems.length < 2 || !(first instanceof VmError)) return first;
  return new VmError(first.code, problems.map(messageOf).join('; '), {
    cause: new AggregateError(problems),
    recoverable: problems.every(mayPass),
  });
}
