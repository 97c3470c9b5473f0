import { sendWithDescriptor, within } from '#host';
import { passFile, type QmpClient } from '#qmp';
import type { Waiting } from '#spec';

const removalMs = 10_000;

/**
 * Lends open files to QEMU while `use` runs, which gets the path that QEMU opens them by: of several it takes the one that
 * is open in the very mode that it asks for. The signal limits how long that takes to pass them. Throws QmpError, the
 * signal's reason, and what `use` throws.
 */
export async function lendFiles<T>(
  [first, ...others]: readonly [number, ...number[]],
  qmp: QmpClient,
  use: (path: string) => Promise<T>,
  waiting: Waiting,
): Promise<T> {
  const set = await passFile(passing(first), { qmp }, waiting);
  try {
    for (const fd of others) await passFile(passing(fd), { qmp, set }, waiting);
    return await use(`/dev/fdset/${set['fdset-id']}`);
  } finally {
    // Also when the caller waits no longer: QEMU would have them for as long as the VM runs.
    using ending = within(removalMs);
    await qmp.execute('remove-fd', set, ending).catch(() => {});
  }
}

function passing(fd: number) {
  return (socketFd: number, bytes: Uint8Array) => sendWithDescriptor(fd, socketFd, bytes);
}
