/** One thing wrong with a configuration: where, and what. */
export interface Problem {
  /** Such as `network_interface[0].bridge.name`. */
  readonly path: string;
  readonly text: string;
}

/** Reports what is wrong at a path. */
export type Report = (path: string, text: string) => void;

/**
 * For checks that run after decoding: reports at most one problem per path, so a value the decoder refused is not
 * reported twice.
 */
export function reportTo(problems: Problem[]): Report {
  const refused = new Set(problems.map(({ path }) => path));
  return (path, text) => {
    if (!refused.has(path)) problems.push({ path, text });
  };
}

/** All problems on one line, as Nomad shows them. */
export function formatProblems(problems: readonly Problem[]): string {
  const lines = problems.map(({ path, text }) => (path === '' ? text : `${path}: ${text}`));
  return lines.length === 1 ? (lines[0] ?? '') : `${lines.length} problems: ${lines.join('; ')}`;
}
