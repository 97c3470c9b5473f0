import { constants, fstatSync, readFileSync } from 'node:fs';
import { closeFd, openPath, punchHole } from '#host';
import { endOf, type JournalEnd, parseJournal } from '#qmp';

const pageBytes = 4096;
/** A guest that resets itself in a loop has an event written each time, which QEMU does not limit. */
const mostBytes = 256 * 1024;
const keptBytes = 16 * 1024;

/** How the VM ended, by what QEMU wrote down; undefined when it did not live to write it. */
export function readEnd(path: string): JournalEnd | undefined {
  try {
    return endOf(parseJournal(readFileSync(path)));
  } catch {
    return undefined;
  }
}

/** Gives a grown journal's old events back to the file system; QEMU goes on appending meanwhile. */
export function trimJournal(path: string): void {
  const fd = openPath(path, constants.O_RDWR | constants.O_NOFOLLOW);
  try {
    const { size, blocks } = fstatSync(fd);
    if (blocks * 512 <= mostBytes) return;
    punchHole(fd, 0, Math.floor((size - keptBytes) / pageBytes) * pageBytes);
  } finally {
    closeFd(fd);
  }
}
