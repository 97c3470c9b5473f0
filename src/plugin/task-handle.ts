import type { DomainRecord } from '#vm';
import { PluginError } from './error.ts';

/** Of TaskHandle.version and of the state in it. 0 is Nomad's own, from before drivers were plugins. */
export const handleVersion = 1;

/**
 * All that a new process needs to take a task over, for Nomad's copy of the task's configuration comes back without the
 * driver's part. No secrets: it lies in the agent's database.
 */
export interface TaskState {
  readonly record: DomainRecord;
  readonly startedAtMs: number;
}

export function encodeTaskState(state: TaskState): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ version: handleVersion, ...state }));
}

/** Throws PluginError 'handle' that says what is wrong with it. */
export function decodeTaskState(version: number, bytes: Uint8Array): TaskState {
  if (version < 1 || version > handleVersion) {
    throw bad(`has version ${version}; this plugin knows 1 to ${handleVersion}`);
  }
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw bad('is not JSON', cause);
  }
  const state = object(json, 'state');
  const record = object(state.record, 'record');
  return {
    startedAtMs: number(state, 'startedAtMs'),
    record: {
      // The VM's side may have put more into it than this file knows of.
      ...record,
      name: text(record, 'name'),
      dir: text(record, 'dir'),
      pid: number(record, 'pid'),
      startTicks: text(record, 'startTicks'),
      bootId: text(record, 'bootId'),
    },
  };
}

type Json = Readonly<Record<string, unknown>>;

function object(value: unknown, name: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw bad(`has no ${name}`);
  }
  return { ...value };
}

function text(json: Json, key: string): string {
  const value = json[key];
  if (typeof value !== 'string' || value === '') throw bad(`has no ${key}`);
  return value;
}

function number(json: Json, key: string): number {
  const value = json[key];
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw bad(`has no ${key}`);
  return value;
}

function bad(what: string, cause?: unknown): PluginError {
  return new PluginError('handle', `virt: the task handle ${what}`, { cause });
}
