import type { QmpEvent } from '#qmp';
import type { Emit, TaskEvent } from '../task-event.ts';
import type { DomainEvent } from '../virtualizer.ts';

export type EventListener = (name: string, event: DomainEvent) => void;

/**
 * Minimum time between two reports of one message: a guest in a reset loop causes the same event many times a second.
 */
const minRepeatMs = 10_000;

/** Passes the events of all VMs on to every listener. */
export class EventFeed {
  readonly #listeners = new Set<EventListener>();

  listen(listener: EventListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Passes on an event of before. */
  pass(name: string, event: DomainEvent): void {
    for (const listener of this.#listeners) listener(name, event);
  }

  /** The function that reports the events of one VM. */
  of(name: string): Emit {
    const reported = new Map<string, number>();
    return (message, annotations = {}) => {
      const elapsedMs = performance.now();
      const last = reported.get(message);
      if (last !== undefined && elapsedMs - last < minRepeatMs) return;
      reported.set(message, elapsedMs);
      this.pass(name, { atMs: Date.now(), message, annotations });
    };
  }
}

/** The task event for a QEMU event; undefined for events that do not concern the operator of the job. */
export function taskEventOf({ event, data }: QmpEvent): TaskEvent | undefined {
  const reason = text(data.reason);
  switch (event) {
    case 'RESET':
      return data.guest === true ? about('Guest rebooted', { reason }) : undefined;
    case 'STOP':
      return about('Guest paused');
    case 'RESUME':
      return about('Guest resumed');
    case 'GUEST_PANICKED':
      return about('Guest panicked', { action: text(data.action) });
    case 'WATCHDOG':
      return about('Watchdog fired', { action: text(data.action) });
    case 'BLOCK_IO_ERROR':
      return about('Disk error', {
        device: text(data.device),
        operation: text(data.operation),
      });
    case 'SHUTDOWN':
      return data.guest === true ? about('Guest powered off', { reason }) : undefined;
    default:
      return undefined;
  }
}

/** QEMU's own values are short texts; a compromised QEMU may send any value. */
function text(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, 100) : '';
}

function about(message: string, annotations: Readonly<Record<string, string>> = {}): TaskEvent {
  return { message, annotations };
}
