import { quoted } from '#spec';
import type { StopRequest } from '#vm';
import { PluginError } from '../error/plugin-error.ts';

/** How long a guest has to power off after a signal. */
const signalGraceMs = 30_000;
/** The limit of a job's kill_timeout: a timer of more than 24.8 days would run at once. */
const maxGraceMs = 24 * 3_600_000;

/** The signals that have a meaning for a machine. */
const requests: Readonly<Record<string, StopRequest>> = {
  SIGTERM: { graceMs: signalGraceMs, immediately: false },
  SIGINT: { graceMs: signalGraceMs, immediately: false },
  SIGKILL: { graceMs: 0, immediately: true },
};

/** Throws PluginError 'unsupported' that lists the supported names. */
export function readSignal(name: string): StopRequest {
  const request = Object.hasOwn(requests, name) ? requests[name] : undefined;
  if (request !== undefined) return request;
  const names = Object.keys(requests).join(', ');
  throw new PluginError(
    'unsupported',
    `signal ${quoted(name)} has no meaning for a VM; supported are ${names}`,
  );
}

/** StopTask's timeout and kill_signal: SIGKILL and a timeout of 0 kill at once. */
export function readStop(signal: string, timeoutMs: number): StopRequest {
  const immediately = signal === 'SIGKILL' || timeoutMs <= 0;
  return { graceMs: Math.min(Math.max(0, timeoutMs), maxGraceMs), immediately };
}
