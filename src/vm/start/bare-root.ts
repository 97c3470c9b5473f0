import type { Logger } from '#host';
import { testBareRoot } from '#qemu';
import type { Waiting } from '#spec';
import { messageOf } from '../error.ts';

/** Whether QEMU can run in a root file system that has only the host's /usr. Throws the signal's reason. */
export async function fitsBareRoot(
  program: string,
  { hostFiles, log }: { readonly hostFiles: boolean; readonly log: Logger },
  waiting: Waiting,
): Promise<boolean> {
  if (hostFiles) return false;
  try {
    await testBareRoot(program, waiting);
    return true;
  } catch (error) {
    waiting.signal.throwIfAborted();
    log.warn('QEMU can see the files of the host', { error: messageOf(error) });
    return false;
  }
}
