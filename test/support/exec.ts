import { setTimeout as sleep } from 'node:timers/promises';
import type { Domain, GuestCommand } from '#vm';
import { VmError } from '../../src/vm/error.ts';
import type { CommandExit, ExecRequest } from '../../src/vm/virtualizer.ts';
import { patient } from './patience.ts';
import { soon } from './vm.ts';

export interface Ran extends CommandExit {
  readonly stdout: string;
  readonly stderr: string;
}

export function execIn(
  domain: Domain,
  command: readonly string[],
  change: Partial<ExecRequest> = {},
): Promise<GuestCommand> {
  return domain.exec({ command, env: {}, terminal: false, ...change }, soon(30_000));
}

/** A shell's script in the guest. */
export const sh = (script: string): readonly string[] => ['sh', '-c', script];

/** On a busy host a guest may not begin it in time: then nothing has run, and it is tried again. */
async function begin(
  domain: Domain,
  command: readonly string[],
  change: Partial<ExecRequest>,
): Promise<GuestCommand> {
  const end = performance.now() + patient(60_000);
  for (;;) {
    try {
      return await execIn(domain, command, change);
    } catch (error) {
      const isBusy = patient(1) > 2 && performance.now() < end;
      if (!(isBusy && error instanceof VmError && error.recoverable)) throw error;
      await sleep(200);
    }
  }
}

/** Runs a command to its end, with this input. */
export async function runCommand(
  domain: Domain,
  command: readonly string[],
  { input, ...change }: Partial<ExecRequest> & { readonly input?: string } = {},
): Promise<Ran> {
  using running = await begin(domain, command, change);
  const feed = async (): Promise<void> => {
    if (input !== undefined) await running.write(Buffer.from(input), soon(60_000));
    running.endInput();
  };
  const output = { stdout: '', stderr: '' };
  const read = async (): Promise<void> => {
    for await (const { stream, data } of running.output) {
      output[stream] += Buffer.from(data).toString('latin1');
    }
  };
  await Promise.all([feed(), read()]);
  return { ...output, ...(await running.exit(soon(10_000))) };
}
