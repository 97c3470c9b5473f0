import { closeSync, openSync, writeSync } from 'node:fs';
import { inspect } from 'node:util';
import type { Logger } from '#host';
import { type LogLevel, logLevels } from './log-level.ts';

/** Nomad reads 64 KiB at a time and turns the rest of a longer line into lines of its own. */
const maxLineBytes = 60 * 1024;
const maxValueLength = 8 * 1024;
const stderr = 2;

export interface PluginLog extends Logger, Disposable {
  setLevel(level: LogLevel): void;
}

/**
 * hclog's JSON lines on stderr, where the agent reads them and, because nobody reads a plugin's stderr after the agent
 * was killed and came back, in a file as well when one is given. Losing either never disturbs the caller.
 */
export function createLog(o: {
  readonly module: string;
  readonly level: LogLevel;
  readonly file: string | undefined;
}): PluginLog {
  let threshold = logLevels.indexOf(o.level);
  let file: number | undefined;
  const write = (level: LogLevel, message: string, fields: Fields = {}): void => {
    if (logLevels.indexOf(level) < threshold) return;
    const line = formatLine({ level, message, module: o.module, fields, at: new Date() });
    writeQuietly(stderr, line);
    if (file !== undefined) writeQuietly(file, line);
  };
  if (o.file !== undefined) {
    try {
      file = openSync(o.file, 'a', 0o600);
    } catch (error) {
      write('warn', 'log file cannot be opened', { file: o.file, error });
    }
  }
  return {
    trace: (message, fields) => write('trace', message, fields),
    debug: (message, fields) => write('debug', message, fields),
    info: (message, fields) => write('info', message, fields),
    warn: (message, fields) => write('warn', message, fields),
    error: (message, fields) => write('error', message, fields),
    setLevel: (level) => {
      threshold = logLevels.indexOf(level);
    },
    [Symbol.dispose]: () => {
      if (file !== undefined) closeSync(file);
      file = undefined;
    },
  };
}

type Fields = Readonly<Record<string, unknown>>;

/** One line with its newline: under 64 KiB, its `@` keys strings whatever the caller passed (the agent panics otherwise). */
export function formatLine(o: {
  readonly level: LogLevel;
  readonly message: string;
  readonly module: string;
  readonly fields: Fields;
  readonly at: Date;
}): string {
  const head = {
    '@level': o.level,
    '@message': cut(o.message),
    '@module': o.module,
    // Six fraction digits, or the agent logs the line raw.
    '@timestamp': o.at.toISOString().replace('Z', '000Z'),
  };
  const fields: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(o.fields)) {
    if (value !== undefined) fields[safeKey(key)] = plain(value);
  }
  const whole = `${JSON.stringify({ ...head, ...fields })}\n`;
  if (Buffer.byteLength(whole) <= maxLineBytes) return whole;
  return `${JSON.stringify({ ...head, dropped: Object.keys(fields).length })}\n`;
}

/** `@` keys belong to hclog and `timestamp` to the agent. */
function safeKey(key: string): string {
  const bare = key.replace(/^@+/, '');
  return bare === 'timestamp' || bare === '' ? 'time' : bare;
}

function plain(value: unknown): unknown {
  // With its stack and its causes.
  if (value instanceof Error) return cut(inspect(value, { depth: 5 }));
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return value;
  if (typeof value === 'string') return cut(value);
  try {
    const seen = JSON.stringify(value, (_key, inner: unknown) =>
      typeof inner === 'bigint' ? inner.toString() : inner,
    );
    return seen === undefined ? String(value) : cut(seen);
  } catch {
    return cut(String(value));
  }
}

function cut(text: string): string {
  return text.length <= maxValueLength ? text : `${text.slice(0, maxValueLength)}…`;
}

/** EPIPE after the agent's death, EAGAIN on a pipe that is full: a lost line is no reason to stop. */
function writeQuietly(fd: number, line: string): void {
  try {
    writeSync(fd, line);
  } catch {
    // Nowhere to say so.
  }
}
