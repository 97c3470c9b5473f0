import { findProgram as find } from '#host';

/** Where a program a test uses is: the driver's own search. */
export { findProgram } from '#host';

export function findVirtiofsd(): string | undefined {
  return find('virtiofsd', ['/usr/lib/qemu']);
}
