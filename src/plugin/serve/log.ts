import { closeSync, openSync, writeSync } from 'node:fs';
import { inspect } from 'node:util';
import type { Logger } from '#host';
import { type LogLevel, logLevels } from '../agent/log-level.ts';

/** Nomad reads 64 KiB at a time and turns the rest of a longer line into lines of its own. */
const maxLineBytes = 60 * 1024;
const maxValueLength = 8 * 1024;
const stderr = 2;

export interface PluginLog extends Logger, Disposable {
  setLevel(level: LogLevel): void;
}

export interface LogOptions {
  readonly module: string;
  readonly level: LogLevel;
  /** A path; undefined is stderr only. */
  readonly file: string | undefined;
}

/**
 * hclog's JSON lines on stderr, which the agent reads. Also in a file when one is given: after the agent was killed and
 * came back, a plugin's stderr has no reader. A failing write never disturbs the caller.
 */
export function createLog({ module, level: initial, file: path }: LogOptions): PluginLog {
  let threshold = logLevels.indexOf(initial);
  let file: number | undefined;
  const write = (level: LogLevel, message: string, fields: Fields = {}): void => {
    if (logLevels.indexOf(level) < threshold) return;
    const line = formatLine({ level, message, module, fields, at: new Date() });
    writeQuietly(stderr, line);
    if (file !== undefined) writeQuietly(file, line);
  };
  if (path !== undefined) {
    try {
      file = openSync(path, 'a', 0o600);
    } catch (error) {
      write('warn', 'log file cannot be opened', { file: path, error });
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

interface LogEntry {
  readonly level: LogLevel;
  readonly message: string;
  readonly module: string;
  readonly fields: Fields;
  readonly at: Date;
}

/** One line with its newline: under 64 KiB, its `@` keys always strings (the agent panics otherwise). */
export function formatLine({ level, message, module, fields: given, at }: LogEntry): string {
  const head = {
    '@level': level,
    '@message': cut(message),
    '@module': module,
    // Six fraction digits, or the agent logs the line raw.
    '@timestamp': at.toISOString().replace('Z', '000Z'),
  };
  const fields: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(given)) {
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

/** EPIPE after the agent's death, EAGAIN on a pipe that is full: the line is dropped. */
function writeQuietly(fd: number, line: string): void {
  try {
    writeSync(fd, line);
  } catch {
    // There is no place to report it.
  }
}
