import { create, toBinary } from '@bufbuild/protobuf';
import { anyPack } from '@bufbuild/protobuf/wkt';
import { PluginError, type PluginErrorCode } from './error.ts';
import { StatusSchema } from './gen/rpc_status_pb.ts';
import { RecoverableErrorSchema } from './gen/structs_pb.ts';

/** A gRPC status. Neither 1 (CANCELLED) nor 14 (UNAVAILABLE) is ever used: Nomad takes both for a dying plugin. */
export interface RpcStatus {
  readonly code: number;
  readonly message: string;
  /** Present when Nomad is to be told whether trying again can help: the bytes of grpc-status-details-bin. */
  readonly details: Uint8Array | undefined;
}

const maxLength = 4096;

const UNKNOWN = 2;
const FAILED_PRECONDITION = 9;
const ABORTED = 10;

const codes: Readonly<Record<PluginErrorCode, number>> = {
  config: 3,
  request: 3,
  'not-found': 5,
  exists: 6,
  state: FAILED_PRECONDITION,
  unsupported: 12,
  handle: 3,
  backend: FAILED_PRECONDITION,
};

/** What Nomad is told of an error. An error that says `recoverable: true` makes Nomad try the task again. */
export function toStatus(error: unknown): RpcStatus {
  const message = fit(messageOf(error));
  const first = firstOf(error);
  if (isRecoverable(first)) return recoverable(message);
  return { code: codeOf(first), message, details: undefined };
}

/**
 * The error's own words, then those of what caused it, unless they are already in there. On one line, for that is how
 * Nomad shows them.
 */
export function messageOf(error: unknown): string {
  let text = '';
  let next = error;
  for (let depth = 0; depth < 5 && next !== undefined; depth += 1) {
    const own = ownWords(next);
    if (own.includes(text)) text = own;
    else if (!text.includes(own)) text = `${text}: ${own}`;
    next = next instanceof Error ? next.cause : undefined;
  }
  return text || 'unknown error';
}

function ownWords(error: unknown): string {
  if (error instanceof SuppressedError) {
    return `${messageOf(error.suppressed)}; then ${messageOf(error.error)}`;
  }
  if (error instanceof AggregateError && error.message === '') {
    return error.errors.map(ownWords).join('; ');
  }
  const words = error instanceof Error ? error.message || error.name : String(error);
  return words.trim().replaceAll(/\s*[\r\n]\s*/g, '; ');
}

/** What went wrong, where cleaning up after it went wrong as well. */
function firstOf(error: unknown): unknown {
  return error instanceof SuppressedError ? firstOf(error.suppressed) : error;
}

function codeOf(error: unknown): number {
  if (error instanceof PluginError) return codes[error.code];
  return error instanceof Error && error.name === 'AbortError' ? ABORTED : UNKNOWN;
}

/** It travels in a header, which has limits, and as a URI, which half a surrogate pair can't be part of. */
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

/** By its property, so that reading a status doesn't load the room the error came from. */
function isRecoverable(error: unknown): boolean {
  return error instanceof Error && 'recoverable' in error && error.recoverable === true;
}
