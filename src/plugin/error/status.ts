import { create, toBinary } from '@bufbuild/protobuf';
import { anyPack } from '@bufbuild/protobuf/wkt';
import { StatusSchema } from '../gen/rpc_status_pb.ts';
import { RecoverableErrorSchema } from '../gen/structs_pb.ts';
import { messageOf } from './message.ts';
import { PluginError, type PluginErrorCode } from './plugin-error.ts';

/** A gRPC status. Neither 1 (CANCELLED) nor 14 (UNAVAILABLE) is ever used: Nomad takes both for a dying plugin. */
export interface RpcStatus {
  readonly code: number;
  readonly message: string;
  /** The bytes of grpc-status-details-bin; present when trying again may help. */
  readonly details: Uint8Array | undefined;
}

const maxLength = 4096;

const UNKNOWN = 2;
const INVALID_ARGUMENT = 3;
const NOT_FOUND = 5;
const ALREADY_EXISTS = 6;
const FAILED_PRECONDITION = 9;
const ABORTED = 10;
const UNIMPLEMENTED = 12;

const codes: Readonly<Record<PluginErrorCode, number>> = {
  invalid: INVALID_ARGUMENT,
  'not-found': NOT_FOUND,
  exists: ALREADY_EXISTS,
  state: FAILED_PRECONDITION,
  unsupported: UNIMPLEMENTED,
  host: FAILED_PRECONDITION,
};

/** The status of an error. One with `recoverable: true` makes Nomad try the task again. */
export function toStatus(error: unknown): RpcStatus {
  const message = fit(messageOf(error));
  const first = firstOf(error);
  if (isRecoverable(first)) return recoverable(message);
  return { code: codeOf(first), message, details: undefined };
}

/** What failed first, where its clean-up failed as well. */
function firstOf(error: unknown): unknown {
  return error instanceof SuppressedError ? firstOf(error.suppressed) : error;
}

/** Decided by properties, so that the room an error came from need not be loaded. UNKNOWN is left for bugs. */
function codeOf(error: unknown): number {
  if (error instanceof PluginError) return codes[error.code];
  if (!(error instanceof Error)) return UNKNOWN;
  if (error.name === 'AbortError') return ABORTED;
  if ('code' in error && error.code === 'job') return INVALID_ARGUMENT;
  if ('code' in error && error.code === 'bug') return UNKNOWN;
  return isBug(error) ? UNKNOWN : FAILED_PRECONDITION;
}

/** Rooms throw errors of their own classes, and the system's carry an errno; a bug is one of JavaScript's own errors. */
function isBug(error: Error): boolean {
  const isErrno =
    'code' in error && typeof error.code === 'string' && /^E[A-Z0-9]+$/.test(error.code);
  return !isErrno && ownErrors.has(error.name);
}

const ownErrors = new Set([
  'Error',
  'AggregateError',
  'AssertionError',
  'EvalError',
  'RangeError',
  'ReferenceError',
  'SyntaxError',
  'TypeError',
  'URIError',
]);

/** The text travels in a header, which is limited in length, and percent-encoded, which fails for half a surrogate pair. */
function fit(text: string): string {
  return (text.length <= maxLength ? text : `${text.slice(0, maxLength)}…`).toWellFormed();
}

function recoverable(message: string): RpcStatus {
  const detail = anyPack(
    RecoverableErrorSchema,
    create(RecoverableErrorSchema, { recoverable: true }),
  );
  const details = create(StatusSchema, { code: FAILED_PRECONDITION, message, details: [detail] });
  return { code: FAILED_PRECONDITION, message, details: toBinary(StatusSchema, details) };
}

function isRecoverable(error: unknown): boolean {
  return error instanceof Error && 'recoverable' in error && error.recoverable === true;
}
