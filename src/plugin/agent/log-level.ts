import type { Fields } from '../hcl/schema.ts';

/** From the most detailed on. */
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error'] as const;

export type LogLevel = (typeof logLevels)[number];

export const logFields = {
  log_level: {
    kind: 'attr',
    type: 'string',
    default: 'info',
    oneOf: logLevels,
    doc: 'The least severe log lines that are sent to the agent, which filters by its own log_level once more.',
    example: '"debug"',
  },
} as const satisfies Fields;
