import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { errnoOf } from '#host';
import { VmError } from '../error.ts';
import { findControl, type TaskOfVm } from './find.ts';
import { type ControlRequest, decodeAnswer } from './request.ts';

export interface Asked {
  /** As the plugin's configuration has it. */
  readonly dataDir: string;
  readonly task: TaskOfVm;
  readonly request: ControlRequest;
  readonly onProgress: (text: string) => void;
}

/** Asks the plugin that manages a task's VM, from another process. Returns its sentence. Throws VmError. */
export async function askVm({ dataDir, task, request, onProgress }: Asked): Promise<string> {
  const socket = connect(await findControl(dataDir, task));
  socket.write(`${JSON.stringify(request)}\n`);
  const lines = createInterface({ input: socket });
  const failed = new Promise<never>((_, reject) => socket.once('error', reject));
  try {
    return await Promise.race([failed, lastOf(lines, onProgress)]);
  } catch (cause) {
    if (cause instanceof VmError) throw cause;
    const text = 'no plugin manages the VM at the moment; is the Nomad agent running?';
    throw errnoOf(cause) === undefined ? cause : new VmError('host', text, { cause });
  } finally {
    socket.destroy();
  }
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
  throw new VmError('host', 'the plugin ended before it was done');
}
