import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { listenUnix } from '../../src/host/index.ts';
import { QmpClient } from '../../src/qmp/index.ts';
import { patient } from './patience.ts';
import { findProgram } from './programs.ts';
import { requireOrSkip } from './require.ts';
import { tmpDir } from './tmp.ts';

const base = ['-accel', 'tcg', '-S', '-nodefaults', '-no-user-config', '-display', 'none'];

/** A paused QEMU under TCG, with a control monitor and a journal as the driver makes them. */
export interface MonitoredQemu {
  readonly process: ChildProcess;
  readonly qmp: QmpClient;
  readonly socketPath: string;
  /** What QEMU has written to its journal so far. */
  readonly journal: () => Uint8Array;
  /** Settles when QEMU has ended. */
  readonly exited: Promise<unknown>;
}

/** Starts one with these further arguments; killed after the test if it still runs. undefined: the test is skipped. */
export async function startQemu(
  t: TestContext,
  args: readonly string[],
): Promise<MonitoredQemu | undefined> {
  const program = findProgram('qemu-system-x86_64');
  if (!requireOrSkip(t, program !== undefined, 'qemu-system-x86_64 is not installed')) return;
  const dir = tmpDir(t);
  const [socketPath, journalPath] = [join(dir, 'qmp.sock'), join(dir, 'journal')];
  writeFileSync(join(dir, 'input'), '{"execute":"qmp_capabilities"}\n');
  const input = openSync(join(dir, 'input'), 'r');
  const output = openSync(journalPath, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT);
  const listener = listenUnix(socketPath);
  const socket = connect({ path: socketPath });
  await once(socket, 'connect');
  const process = spawn(
    program ?? '',
    [
      ...base,
      ...args,
      ...['-chardev', 'socket,id=control,fd=3,server=on,wait=off'],
      ...['-mon', 'chardev=control,mode=control'],
      ...['-chardev', 'stdio,id=journal,signal=off', '-mon', 'chardev=journal,mode=control'],
    ],
    { stdio: [input, output, 'ignore', listener] },
  );
  for (const fd of [input, output, listener]) closeSync(fd);
  const exited = once(process, 'exit');
  t.after(async () => {
    process.kill('SIGKILL');
    await exited;
  });
  const qmp = await QmpClient.negotiate(socket, { signal: AbortSignal.timeout(patient(20_000)) });
  t.after(() => qmp[Symbol.asyncDispose]());
  const journal = (): Uint8Array => readFileSync(journalPath);
  // Before the journal's own negotiation is through, QEMU writes no events to it.
  while (!Buffer.from(journal()).includes('"return"')) {
    assert.equal(process.exitCode, null, 'QEMU ended before its journal was open');
    await sleep(5);
  }
  return { process, qmp, socketPath, exited, journal };
}
