import { printable, type Waiting } from '#spec';
import { PluginError } from '../error/plugin-error.ts';
import type { Task } from '../tasks/tasks.ts';
import { execTask } from './exec.ts';

/** A reload takes less; the one who sent the signal waits for it. */
const timeoutMs = 30_000;
const maxShown = 200;

/** Runs the job's command for SIGHUP in the guest, to its end. Throws PluginError where there is none, or it fails. */
export async function hangUp(task: Task, call: Waiting): Promise<void> {
  const command = task.domain.onHangUp;
  if (command === undefined) {
    const text =
      'signal "SIGHUP" has no meaning for a VM unless the job gives it one: exec { on_sighup = ["systemctl", "reload", "nginx"] }';
    throw new PluginError('unsupported', text);
  }
  const { stdout, result } = await execTask(task, { command, timeoutMs }, call);
  const exitCode = result?.exitCode ?? 0;
  if (exitCode === 0) return;
  const reason = lastLine(stdout);
  const name = command[0] ?? '';
  throw new PluginError(
    'state',
    `exec.on_sighup: ${name} ended in the guest with exit code ${exitCode}${reason === '' ? '' : `: ${reason}`}`,
  );
}

function lastLine(output: Uint8Array | undefined): string {
  const lines = Buffer.from(output ?? [])
    .toString('utf8')
    .trim()
    .split('\n');
  return printable(lines.at(-1) ?? '', maxShown);
}
