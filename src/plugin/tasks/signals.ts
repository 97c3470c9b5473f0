import { quoted } from '#spec';
import type { GuestAction, StopRequest } from '#vm';
import { PluginError } from '../error/plugin-error.ts';

/** How long a guest has to power off after a signal. */
const signalGraceMs = 30_000;
/** The limit of a job's kill_timeout: a timer of more than 24.8 days would run at once. */
const maxGraceMs = 24 * 3_600_000;

export type SignalRequest =
  | { readonly kind: 'stop'; readonly request: StopRequest }
  | { readonly kind: 'act'; readonly action: GuestAction }
  /** The job's own command in the guest. */
  | { readonly kind: 'command' };

const powerOff = { kind: 'stop', request: { graceMs: signalGraceMs, immediately: false } } as const;

/** The signals that have a meaning for a machine. */
const requests: Readonly<Record<string, SignalRequest>> = {
  SIGTERM: powerOff,
  SIGINT: powerOff,
  SIGKILL: { kind: 'stop', request: { graceMs: 0, immediately: true } },
  SIGSTOP: { kind: 'act', action: 'pause' },
  SIGCONT: { kind: 'act', action: 'resume' },
  SIGQUIT: { kind: 'act', action: 'reset' },
  SIGHUP: { kind: 'command' },
  SIGUSR1: { kind: 'act', action: 'nmi' },
};

/** Throws PluginError 'unsupported' that lists the supported names. */
export function readSignal(name: string): SignalRequest {
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
