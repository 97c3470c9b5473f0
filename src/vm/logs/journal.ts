import { constants, fstatSync } from 'node:fs';
import { closeFd, type Logger, openPath, punchHole, reserveSpace } from '#host';
import { endOf, type JournalEnd, parseJournal, type QmpEvent } from '#qmp';
import { messageOf } from '../error.ts';
import { readTail } from './log-tail.ts';

const pageBytes = 4096;
/** Old events that are kept: the last few show how the VM ended. */
const keptBytes = 16 * 1024;
/** Space reserved for new events on the VM's tmpfs: the guest's console may have filled the rest. */
const reservedBytes = 32 * 1024;
/** A guest can make QEMU write any number of events: by resetting itself, by reporting panics. */
const maxBytes = 128 * 1024;
const eventsPerTrim = 64;

/** Maximum that a journal uses of the VM's tmpfs, as long as a plugin trims it. */
export const journalBytes = 256 * 1024;

/** Opens the journal for QEMU to append to. The descriptor is the caller's. */
export function openJournal(path: string): number {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;
  const fd = openPath(path, flags, 0o600);
  try {
    reserveSpace(fd, 0, reservedBytes);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** A VM's journal, for the process that manages the VM and receives the same events. */
export class Journal {
  readonly #path: string;
  readonly #log: Logger;
  readonly #onGrowth: (bytes: number) => void;
  #events = 0;
  /** Events of the VM's end that were received, in case QEMU had no space to write them. */
  #shutdownEvents: readonly QmpEvent[] = [];

  constructor(path: string, log: Logger, onGrowth: (bytes: number) => void) {
    this.#path = path;
    this.#log = log;
    this.#onGrowth = onGrowth;
  }

  /** Notes an event, and at intervals returns the blocks of old events to the file system. */
  observe(event: QmpEvent): void {
    if (event.event === 'RESET') this.#shutdownEvents = [];
    if (/^(SHUTDOWN|GUEST_PANICKED|WATCHDOG)$/.test(event.event)) {
      this.#shutdownEvents = [...this.#shutdownEvents.slice(-3), event];
    }
    this.#events += 1;
    if (this.#events % eventsPerTrim !== 0) return;
    try {
      this.#onGrowth(trimJournal(this.#path));
    } catch (error) {
      this.#log.warn('journal not trimmed', { path: this.#path, error: messageOf(error) });
    }
  }

  /** How the VM ended; undefined when QEMU ended without reporting it. */
  end(): JournalEnd | undefined {
    return readEnd(this.#path) ?? endOf(this.#shutdownEvents);
  }
}

/** When the guest booted again for the last time; undefined where it did not, or so long ago that it is not kept. */
export function lastResetMs(path: string): number | undefined {
  try {
    const events = parseJournal(readTail(path, journalBytes));
    return events.findLast(({ event }) => event === 'RESET')?.atMs;
  } catch {
    return undefined;
  }
}

/** How the VM ended, from what QEMU wrote; undefined when the journal has no end. */
function readEnd(path: string): JournalEnd | undefined {
  try {
    return endOf(parseJournal(readTail(path, journalBytes)));
  } catch {
    return undefined;
  }
}

/**
 * Returns a long journal's old blocks to the file system, while QEMU goes on appending. Returns the journal's length.
 */
function trimJournal(path: string): number {
  const fd = openPath(path, constants.O_RDWR | constants.O_NOFOLLOW);
  try {
    const { size, blocks } = fstatSync(fd);
    if (blocks * 512 <= maxBytes) return size;
    punchHole(fd, 0, Math.floor((size - keptBytes) / pageBytes) * pageBytes);
    reserveSpace(fd, size, reservedBytes);
    return size;
  } finally {
    closeFd(fd);
  }
}
