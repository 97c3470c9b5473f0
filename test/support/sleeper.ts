import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { identify, type ProcessIdentity } from '#host';

export interface Sleeper {
  readonly identity: ProcessIdentity;
  readonly end: () => Promise<void>;
}

/** A process that does nothing, until it is ended or the test is over. */
export async function sleeper(t: TestContext): Promise<Sleeper> {
  const child = spawn('sleep', ['infinity']);
  await once(child, 'spawn');
  const identity = identify(child.pid ?? 0) ?? assert.fail('it runs');
  const exited = once(child, 'exit');
  const end = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
  };
  t.after(end);
  return { identity, end };
}
