import { quoted } from '#spec';

// Variables that a shell reserves: assigning one stops the sourcing shell in the middle of the file
// (bash: readonly variable; dash: OPTIND: Illegal number).
const reserved = new Set([
  ...['BASHOPTS', 'BASH_VERSINFO', 'EUID', 'LINENO', 'OPTIND', 'PPID', 'SHELLOPTS', 'UID', '_'],
]);

/** Of the variables that one sentence is about. */
const maxNamed = 10;

const shellName = /^[A-Za-z_][A-Za-z0-9_]*$/;

export interface EnvFile {
  /** `KEY="value"` lines in order of the keys; '' when nothing is left. */
  readonly text: string;
  /** One sentence for each reason to leave variables out: a task has ten events, of which the oldest goes. */
  readonly notes: readonly string[];
}

/**
 * An environment as a file that `. file` in any POSIX shell and systemd's EnvironmentFile= read alike. It uses double
 * quotes, because systemd reads the shell's idiom for a single quote inside single quotes differently.
 */
export function formatEnvFile(env: Readonly<Record<string, string>>): EnvFile {
  const left = new Map<string, readonly string[]>();
  const lines: string[] = [];
  // By code units, not by locale: the same environment gives the same bytes everywhere.
  for (const key of Object.keys(env).sort()) {
    const value = env[key] ?? '';
    const problem = problemOf(key, value);
    if (problem !== undefined) left.set(problem, [...(left.get(problem) ?? []), quoted(key)]);
    else lines.push(`${key}="${value.replace(/["\\$`]/g, '\\$&')}"\n`);
  }
  const notes = [...left].map(
    ([problem, keys]) => `environment variables left out, ${problem}: ${listed(keys)}`,
  );
  return { text: lines.join(''), notes };
}

function listed(keys: readonly string[]): string {
  const more = keys.length - maxNamed;
  return `${keys.slice(0, maxNamed).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

function problemOf(key: string, value: string): string | undefined {
  if (!shellName.test(key)) return 'whose names are not valid in a shell';
  if (reserved.has(key)) return 'whose names shells reserve';
  if (value.includes('\0')) return 'whose values contain a NUL byte';
  if (!value.isWellFormed()) return 'whose values are not valid Unicode';
  return undefined;
}

/** One word of a POSIX shell command, for any text. */
export function shellWord(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
