export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error';

/** From the most talkative on. */
export const logLevels: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error'];
