import type { StopRequest } from '#vm';
import { PluginError } from './error.ts';

/** How long a guest has to power off after a signal. */
const signalGraceMs = 30_000;
/** Nobody waits longer for a guest. A job may say so all the same, and a timer of more than 24.8 days would run at once. */
const maxGraceMs = 24 * 3_600_000;

/** What a VM makes of a signal: the ones that have a meaning for a machine. */
const verbs: Readonly<Record<string, StopRequest>> = {
  SIGTERM: { graceMs: signalGraceMs, immediately: false },
  SIGINT: { graceMs: signalGraceMs, immediately: false },
  SIGKILL: { graceMs: 0, immediately: true },
};

/** Throws PluginError 'unsupported' that lists the names there are. */
export function readSignal(name: string): StopRequest {
  const request = Object.hasOwn(verbs, name) ? verbs[name] : undefined;
  if (request !== undefined) return request;
  const names = Object.keys(verbs).join(', ');
  throw new PluginError(
    'unsupported',
    `signal ${JSON.stringify(name)} means nothing to a VM; supported are ${names}`,
  );
}

/** StopTask's timeout and kill_signal: SIGKILL and no time at all skip every polite step. */
export function readStop(signal: string, timeoutMs: number): StopRequest {
  const immediately = signal === 'SIGKILL' || timeoutMs <= 0;
  return { graceMs: Math.min(Math.max(0, timeoutMs), maxGraceMs), immediately };
}
