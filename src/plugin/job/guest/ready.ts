import { isPort, linePattern, quoted, type ReadySpec } from '#spec';
import { durationMs } from '../../hcl/duration.ts';
import type { Decoded } from '../../hcl/schema.ts';
import type { Job } from '../job.ts';

const minMs = 1000;
const maxMs = 24 * 3_600_000;
const defaultTimeout = '2m';

const fields = {
  agent: {
    kind: 'attr',
    type: 'bool',
    default: false,
    doc: "Whether the guest's agent must answer.",
    example: 'true',
  },
  port: {
    kind: 'attr',
    type: 'string',
    doc: 'A port of the guest that must accept connections: a label from `ports` of a network interface, or a number. The guest must be in a managed network.',
    example: '"ssh"',
  },
  log: {
    kind: 'attr',
    type: 'string',
    doc: 'A regular expression, as in RE2, that a line of the console must match: `.`, classes, `\\d \\w \\s`, groups, `|`, `* + ? {n,m}`, `^ $`, and `(?i)` at its beginning.',
    example: '"login:"',
  },
  timeout: {
    kind: 'attr',
    type: 'string',
    default: defaultTimeout,
    doc: 'How long that may take from the start of the guest, such as `90s`; 24h at most.',
    example: '"5m"',
  },
  fail: {
    kind: 'attr',
    type: 'bool',
    default: false,
    doc: 'Whether the task fails when the time is up. Otherwise this is an event only.',
    example: 'true',
  },
} as const;

/** When the guest counts as ready. */
export const ready = {
  field: {
    kind: 'block',
    doc: 'What makes the guest count as ready: all that is named here. The task runs from its start on; when the guest is ready, or not ready in time, is an event of the task.',
    fields,
  },
  read: (raw: Decoded<typeof fields>, { report, task }: Job): ReadySpec => {
    const { agent, fail, port, log, timeout } = raw;
    if (!agent && !port && !log) report('ready', 'has nothing to wait for: set agent, port or log');
    const timeoutMs = durationMs(timeout);
    if (timeoutMs === undefined || timeoutMs < minMs || timeoutMs > maxMs) {
      report('ready.timeout', `${quoted(timeout)} is not a time from 1s to 24h, such as "2m"`);
    }
    const patternProblem = log ? problemOf(log) : undefined;
    if (patternProblem !== undefined) report('ready.log', patternProblem);
    const number = port && /^\d+$/.test(port) ? Number(port) : undefined;
    if (port && !isKnownPort(number ?? port, task)) {
      report(
        'ready.port',
        `${quoted(port)} is neither a port of the group nor a number from 1 to 65535`,
      );
    }
    return {
      agent,
      fail,
      timeoutMs: timeoutMs ?? 0,
      ...(port ? { port: number ?? port } : {}),
      ...(log ? { log } : {}),
    };
  },
} as const;

function isKnownPort(port: string | number, { resources }: Job['task']): boolean {
  if (typeof port === 'number') return isPort(port);
  return resources?.ports.some(({ label }) => label === port) === true;
}

/** What is wrong with a pattern. */
function problemOf(text: string): string | undefined {
  try {
    linePattern(text);
    return undefined;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return `${quoted(text)} ${error.message}`;
  }
}
