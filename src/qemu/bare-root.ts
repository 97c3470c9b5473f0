import { readFileSync } from 'node:fs';
import { abortable, closeFd, HostError, kill, memfd, PerFile, spawnDetached, within } from '#host';
import type { Waiting } from '#spec';

const runMs = 10_000;
const killMs = 5_000;

/** Cached until the program's file changes. */
const obstacles = new PerFile<string | undefined>();

/**
 * Why this QEMU can't run in a root file system that has only the host's /usr; undefined where it can, which is tested
 * by running it there once. Throws the signal's reason.
 */
export async function bareRootObstacle(
  program: string,
  waiting: Waiting,
): Promise<string | undefined> {
  return await obstacles.get(program, (shared) => tryOnce(program, shared), waiting);
}

async function tryOnce(program: string, waiting: Waiting): Promise<string | undefined> {
  const messages = memfd('bare-root-messages', new Uint8Array());
  try {
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
      if (code === 0) return undefined;
      const [line = ''] = readFileSync(`/proc/self/fd/${messages}`, 'latin1').split('\n');
      return `${program} does not start with nothing but /usr (${code ?? signal}): ${line}`;
    } finally {
      await kill(qemu.identity, within(killMs));
    }
  } catch (error) {
    // The program is outside of /usr (ENOENT), or the kernel or a container does not permit such a root.
    if (error instanceof HostError) return error.message;
    throw error;
  } finally {
    closeFd(messages);
  }
}
