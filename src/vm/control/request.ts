import * as v from 'valibot';
import { VmError } from '../error.ts';

const disk = v.pipe(v.string(), v.maxLength(64));
const path = v.pipe(v.string(), v.maxLength(4096));

const request = v.variant('command', [
  v.object({
    command: v.literal('resize'),
    disk,
    bytes: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  }),
  v.object({
    command: v.literal('backup'),
    disk,
    path,
    /** Bytes per second at most; without a limit when left out. */
    speed: v.exactOptional(v.pipe(v.number(), v.safeInteger(), v.minValue(1))),
  }),
  v.object({ command: v.literal('screenshot'), path }),
]);

/** What an operator asks of a VM that runs, as one line of JSON. */
export type ControlRequest = v.InferOutput<typeof request>;

const answer = v.object({ kind: v.picklist(['progress', 'done', 'error']), text: v.string() });

/** One line of an answer; `done` and `error` are its last. */
export type ControlAnswer = v.InferOutput<typeof answer>;

/** Throws VmError. */
export function decodeRequest(line: string): ControlRequest {
  return decode(request, line, 'request');
}

/** Throws VmError. */
export function decodeAnswer(line: string): ControlAnswer {
  return decode(answer, line, 'answer');
}

function decode<T>(schema: v.GenericSchema<unknown, T>, line: string, what: string): T {
  const result = v.safeParse(schema, parsed(line));
  if (result.success) return result.output;
  const [issue] = result.issues;
  const place = v.getDotPath(issue) ?? what;
  throw new VmError('host', `this is no ${what} of this release: ${place}: ${issue.message}`);
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
