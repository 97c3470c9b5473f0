import { readFileSync } from 'node:fs';
import { abortable, closeFd, kill, memfd, PerFile, spawnDetached, within } from '#host';
import type { Waiting } from '#spec';
import { QemuError } from './error.ts';

const runMs = 10_000;
const killMs = 5_000;

/** Only of programs that run there: the cause of a failure may be gone at the next start. */
const tested = new PerFile<void>();

/**
 * Tests that this QEMU can run in a root file system that has only the host's /usr, by running it there; once, until its
 * file changes. Throws QemuError or HostError with the obstacle, and the signal's reason.
 */
export async function testBareRoot(program: string, waiting: Waiting): Promise<void> {
  await tested.get(program, (shared) => runOnce(program, shared), waiting);
}

async function runOnce(program: string, waiting: Waiting): Promise<void> {
  const messages = memfd('bare-root-messages', new Uint8Array());
  try {
    // Throws where the program is outside of /usr (ENOENT), or the kernel or a container does not permit such a root.
    const qemu = await spawnDetached({
      program,
      args: ['--version'],
      stdio: ['ignore', 'ignore', messages],
      alone: true,
      bareRoot: true,
    });
    using limited = within(runMs, waiting);
    try {
      const { code, signal } = await abortable(qemu.exit, limited);
      if (code === 0) return;
      const [line = ''] = readFileSync(`/proc/self/fd/${messages}`, 'latin1').split('\n');
      const what = `${program} does not start with nothing but /usr`;
      throw new QemuError('unavailable', `${what} (${code ?? signal}): ${line}`);
    } finally {
      using killing = within(killMs);
      await kill(qemu.identity, killing);
    }
  } finally {
    closeFd(messages);
  }
}
