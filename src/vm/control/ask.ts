import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { addAbortSignal } from 'node:stream';
import { errnoOf } from '#host';
import type { Waiting } from '#spec';
import { VmError } from '../error.ts';
import { findControl, type TaskOfVm } from './find.ts';
import { type ControlRequest, decodeAnswer } from './request.ts';

const ended = 'the plugin ended before it was done';

export interface Asked {
  /** As the plugin's configuration has it. */
  readonly dataDir: string;
  readonly task: TaskOfVm;
  readonly request: ControlRequest;
  readonly onProgress: (text: string) => void;
}

/**
 * Asks the plugin that manages a task's VM, from another process. Returns its sentence. Throws VmError. An abort cancels
 * what is not done yet.
 */
export async function askVm(
  { dataDir, task, request, onProgress }: Asked,
  { signal }: Waiting,
): Promise<string> {
  const socket = addAbortSignal(signal, connect(await findControl(dataDir, task)));
  socket.write(`${JSON.stringify(request)}\n`);
  const lines = createInterface({ input: socket });
  const failed = new Promise<never>((_, reject) => socket.once('error', reject));
  try {
    return await Promise.race([failed, lastOf(lines, onProgress)]);
  } catch (cause) {
    throw signal.aborted || cause instanceof VmError ? cause : lost(cause);
  } finally {
    socket.destroy();
  }
}

function lost(cause: unknown): VmError {
  const isAbsent = ['ENOENT', 'ECONNREFUSED'].includes(errnoOf(cause) ?? '');
  const text = isAbsent
    ? 'no plugin manages the VM at the moment; is the Nomad agent running?'
    : ended;
  return new VmError('host', text, { cause });
}

async function lastOf(
  lines: AsyncIterable<string>,
  onProgress: Asked['onProgress'],
): Promise<string> {
  for await (const line of lines) {
    const { kind, text } = decodeAnswer(line);
    if (kind === 'error') throw new VmError('host', text);
    if (kind === 'done') return text;
    onProgress(text);
  }
  throw new VmError('host', ended);
}
