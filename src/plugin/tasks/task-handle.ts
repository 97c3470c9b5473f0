import type { DomainRecord } from '#vm';
import { PluginError } from '../error/plugin-error.ts';

/** The version of a TaskHandle and of the state in it. 0 is Nomad's own, from before drivers were plugins. */
export const handleVersion = 1;

/**
 * Everything a new process needs to take a task over: Nomad returns the task's configuration without the driver's part.
 * No secrets: it is stored in the agent's database.
 */
export interface TaskState {
  readonly record: DomainRecord;
  /** Not read any more; earlier versions of this plugin refuse a handle without it. */
  readonly startedAtMs: number;
}

export function encodeTaskState(state: TaskState): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ version: handleVersion, ...state }));
}

/** What recovery needs of a task's state. Throws PluginError 'invalid' that names what is wrong with it. */
export function decodeTaskState(version: number, bytes: Uint8Array): DomainRecord {
  if (version < 1 || version > handleVersion) {
    throw bad(`has version ${version}; this plugin reads 1 to ${handleVersion}`);
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
    // The VM room may have added fields that this file does not know.
    ...record,
    name: text(record, 'name'),
    dir: text(record, 'dir'),
    pid: number(record, 'pid'),
    startTicks: text(record, 'startTicks'),
    bootId: text(record, 'bootId'),
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

function bad(problem: string, cause?: unknown): PluginError {
  return new PluginError('invalid', `the task handle ${problem}`, { cause });
}

/** What a recovery works with. */
export interface RecoverRequest {
  /** Decodes the handle; throws PluginError 'invalid'. */
  readonly readRecord: () => DomainRecord;
  readonly env: Readonly<Record<string, string>>;
  readonly stdoutPath: string;
  readonly stderrPath: string;
}
