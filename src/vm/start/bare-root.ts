import type { Logger } from '#host';
import { bareRootObstacle } from '#qemu';
import type { Waiting } from '#spec';
import type { PreparedShare } from '../devices/shares.ts';
import { messageOf } from '../error.ts';

export interface BareRootQuestion {
  /** The emulator. */
  readonly program: string;
  readonly shares: readonly PreparedShare[];
  readonly log: Logger;
}

/** Whether QEMU gets a root in which there is none of the host's files but /usr. Throws the signal's reason. */
export async function fitsBareRoot(
  { program, shares, log }: BareRootQuestion,
  waiting: Waiting,
): Promise<boolean> {
  // Over 9p QEMU itself opens the directories.
  if (shares.some(({ plan }) => plan.type === '9p')) return false;
  const obstacle = await bareRootObstacle(program, waiting).catch((error: unknown) => {
    waiting.signal.throwIfAborted();
    return messageOf(error);
  });
  if (obstacle === undefined) return true;
  log.warn('QEMU sees the files of the host', { reason: obstacle });
  return false;
}
