import { QmpError } from './error.ts';
import { jsonProblem } from './json-limits.ts';

/** Something that happened in QEMU. `atMs` is the host's clock, ms since the epoch. */
export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly atMs: number;
}

/** One line from QEMU. `id` is undefined where QEMU does not know which command it answers. */
export type QmpMessage =
  | { readonly kind: 'greeting' }
  | { readonly kind: 'reply'; readonly id: unknown; readonly value: unknown }
  | { readonly kind: 'error'; readonly id: unknown; readonly description: string }
  | { readonly kind: 'event'; readonly event: QmpEvent };

/** Maximum characters of a refusal; it goes into errors, and from there into logs and a task's events. */
const maxDescription = 1000;

/** Decodes a line of one of the four kinds. Throws QmpError `protocol` on anything else. */
export function parseMessage(text: string): QmpMessage {
  const value = parseJson(text);
  if (!isRecord(value)) throw unknownLine(text);
  const message =
    parseEvent(value) ?? parseReply(value) ?? parseRefusal(value) ?? parseGreeting(value);
  if (message === undefined) throw unknownLine(text);
  return message;
}

/**
 * JSON.parse with two differences: the text is checked against limits first, and integers that a double can't hold
 * become bigint, so that 18446744073709551615 keeps its value.
 */
export function parseJson(text: string): unknown {
  const problem = jsonProblem(text);
  if (problem !== undefined) throw new QmpError('protocol', `a line from QEMU ${problem}`);
  try {
    // The reviver costs ten times the parsing, and only a run of 16 digits can be an unsafe integer.
    return /\d{16}/.test(text) ? JSON.parse(text, unsafeIntegers) : JSON.parse(text);
  } catch (cause) {
    throw new QmpError('protocol', `a line from QEMU is not JSON: ${excerpt(text)}`, {
      cause,
    });
  }
}

/**
 * A figure from QEMU as a number: undefined for "not available", which the balloon device reports as 2^64-1, and for
 * anything else that is not a count.
 */
export function figure(value: unknown): number | undefined {
  if (typeof value === 'bigint') {
    return value >= 0n && value < 2n ** 63n ? Number(value) : undefined;
  }
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// The third parameter holds the digits as they were written (ES2025, JSON.parse source text access).
function unsafeIntegers(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value)) return value;
  const source = context?.source ?? '';
  return /^-?\d{16,20}$/.test(source) ? BigInt(source) : value;
}

function parseEvent(value: Readonly<Record<string, unknown>>): QmpMessage | undefined {
  const { event, data, timestamp } = value;
  if (typeof event !== 'string') return undefined;
  const time = isRecord(timestamp) ? timestamp : {};
  const seconds = figure(time.seconds) ?? 0;
  const microseconds = figure(time.microseconds) ?? 0;
  return {
    kind: 'event',
    event: {
      event,
      data: isRecord(data) ? data : {},
      atMs: Math.floor(seconds * 1000 + microseconds / 1000),
    },
  };
}

function parseReply(value: Readonly<Record<string, unknown>>): QmpMessage | undefined {
  if (!Object.hasOwn(value, 'return')) return undefined;
  return { kind: 'reply', id: value.id, value: value.return };
}

function parseRefusal(value: Readonly<Record<string, unknown>>): QmpMessage | undefined {
  const { error, id } = value;
  if (!isRecord(error)) return undefined;
  const { desc } = error;
  if (typeof desc !== 'string') return undefined;
  return { kind: 'error', id, description: desc.slice(0, maxDescription) };
}

function parseGreeting(value: Readonly<Record<string, unknown>>): QmpMessage | undefined {
  return isRecord(value.QMP) ? { kind: 'greeting' } : undefined;
}

function unknownLine(text: string): QmpError {
  return new QmpError('protocol', `a line from QEMU is not a QMP message: ${excerpt(text)}`);
}

function excerpt(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}...` : text);
}
