import { HostError } from '../error.ts';

/** What an undo log has. */
export interface Content<Step> {
  readonly pending: Map<number, Step>;
  readonly nextNumber: number;
  /** Length of the complete lines. */
  readonly bytes: number;
  readonly torn: boolean;
}

/** Decodes a log. A killed writer leaves a broken last line; anywhere else a broken line is an error (HostError). */
export function parseLog<Step>(bytes: Buffer, decode: (json: unknown) => Step): Content<Step> {
  const pending = new Map<number, Step>();
  let nextNumber = 0;
  let at = 0;
  for (let line = 1; at < bytes.length; line += 1) {
    const end = bytes.indexOf('\n', at);
    if (end === -1) break;
    const entry = parseEntry(bytes.toString('utf8', at, end));
    if (entry === undefined) {
      if (end === bytes.length - 1) break;
      throw new HostError(`line ${line} is broken`);
    }
    if ('done' in entry) pending.delete(Number(entry.done));
    else {
      pending.set(nextNumber, decode(entry.do));
      nextNumber += 1;
    }
    at = end + 1;
  }
  return { pending, nextNumber, bytes: at, torn: at < bytes.length };
}

function parseEntry(line: string): { do: unknown } | { done: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== 'object' || value === null) return undefined;
    if ('do' in value) return value;
    return 'done' in value ? value : undefined;
  } catch {
    return undefined;
  }
}
