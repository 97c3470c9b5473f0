import { parseMessage, type QmpEvent } from './message.ts';

/** How a VM ended, where QEMU could still report it. */
export interface JournalEnd {
  /** `watchdog`, or QEMU's ShutdownCause: `guest-shutdown`, `guest-reset`, `guest-panic`, `host-qmp-quit`, `host-signal`, ... */
  readonly reason: string;
  /** Whether it came from inside the guest. */
  readonly guest: boolean;
  /** Whether the guest had panicked since its last reset. */
  readonly panicked: boolean;
}

const lineFeed = 0x0a;

/** Only the last lines are read: the end is in the last few, and a QEMU under a guest's control may write 100 000 empty ones. */
const maxLines = 500;

/**
 * The events in the file that QEMU's second monitor writes. Everything else is skipped: the greeting, replies, an
 * unfinished last line, and the NUL bytes and half a line that a punched hole (which bounds the file) leaves at the
 * front.
 */
export function parseJournal(text: string | Uint8Array): readonly QmpEvent[] {
  const bytes = typeof text === 'string' ? new TextEncoder().encode(text) : text;
  return lastLines(bytes).flatMap((line) => {
    const event = eventOf(line);
    return event === undefined ? [] : [event];
  });
}

/**
 * The end that a journal reports; undefined when it reports none, which for a dead QEMU means SIGKILL, the OOM
 * killer or an abort. The first SHUTDOWN decides: QEMU may write another one while it is being terminated.
 */
export function endOf(events: readonly QmpEvent[]): JournalEnd | undefined {
  let panicked = false;
  let stuck = false;
  for (const { event, data } of events) {
    if (event === 'GUEST_PANICKED') {
      panicked = true;
      // With action `run` the guest goes on, to write its crash dump for instance.
      stuck = data.action !== 'run';
    } else if (event === 'RESET') {
      panicked = false;
      stuck = false;
    } else if (event === 'WATCHDOG' && data.action === 'poweroff') {
      // QEMU exits at once: no SHUTDOWN follows.
      return { reason: 'watchdog', guest: true, panicked };
    } else if (event === 'SHUTDOWN') {
      const guest = data.guest === true;
      const reason = typeof data.reason === 'string' ? data.reason.slice(0, 100) : 'unknown';
      return { reason, guest, panicked };
    }
  }
  return stuck ? { reason: 'guest-panic', guest: true, panicked } : undefined;
}

/** The last lines, in order, without what a hole left before them. */
function lastLines(bytes: Uint8Array): readonly Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let end = bytes.length; end > 0 && found.length < maxLines; ) {
    const start = bytes.lastIndexOf(lineFeed, end - 1) + 1;
    const line = bytes.subarray(start, end);
    const first = line.findIndex((byte) => byte !== 0);
    if (first >= 0) found.push(line.subarray(first));
    end = start - 1;
  }
  return found.reverse();
}

function eventOf(line: Uint8Array): QmpEvent | undefined {
  try {
    const message = parseMessage(new TextDecoder().decode(line).trim());
    return message.kind === 'event' ? message.event : undefined;
  } catch {
    return undefined;
  }
}
