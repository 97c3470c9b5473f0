import { randomUUID } from 'node:crypto';
import type { Waiting } from '#spec';
import type { QmpClient } from './client.ts';
import type { Pass } from './passing.ts';

const prefix = 'plugin ';
/** Of the files that this process has passed on. */
const own = `${prefix}${randomUUID()}`;

/** A file that QEMU knows as `/dev/fdset/<fdset-id>`, until the set is removed. */
interface FileSet {
  readonly 'fdset-id': number;
}

/** Passes an open file to QEMU, in a set of its own or as one more of a set. */
export function passFile(
  pass: Pass,
  { qmp, set = {} }: { readonly qmp: QmpClient; readonly set?: Partial<FileSet> },
  waiting: Waiting,
): Promise<FileSet> {
  return qmp.executeWith(pass, 'add-fd', { ...set, opaque: own }, waiting);
}

/**
 * Removes the files that an earlier process has passed on and was killed before it removed them: QEMU would keep them open,
 * and on a disk their space, for as long as the VM runs.
 */
export async function removeForeignFiles(qmp: QmpClient, waiting: Waiting): Promise<void> {
  const isForeign = ({ opaque = '' }): boolean => opaque.startsWith(prefix) && opaque !== own;
  for (const { fds, 'fdset-id': id } of await qmp.execute('query-fdsets', {}, waiting)) {
    if (fds.some(isForeign)) await qmp.execute('remove-fd', { 'fdset-id': id }, waiting);
  }
}
