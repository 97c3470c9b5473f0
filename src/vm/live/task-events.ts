import type { QmpEvent } from '#qmp';
import type { DomainEvent } from '../virtualizer.ts';

/** A sentence about a VM for the task's events, with details. */
export interface GuestStory {
  readonly message: string;
  readonly annotations: Readonly<Record<string, string>>;
}

export type StoryListener = (name: string, event: DomainEvent) => void;

/** A guest in a reset loop tells the same story many times a second: each sentence is told this often at most. */
const quietMs = 10_000;

/** Tells the stories of all VMs to every listener. */
export class StoryTeller {
  readonly #listeners = new Set<StoryListener>();

  listen(listener: StoryListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The voice of one VM. */
  about(name: string): (story: GuestStory) => void {
    const told = new Map<string, number>();
    return ({ message, annotations }) => {
      const elapsedMs = performance.now();
      const last = told.get(message);
      if (last !== undefined && elapsedMs - last < quietMs) return;
      told.set(message, elapsedMs);
      const atMs = Date.now();
      for (const listener of this.#listeners) listener(name, { atMs, message, annotations });
    };
  }
}

/** What a QEMU event means to the person who runs the job; undefined for events nobody needs to read. */
export function storyOf({ event, data }: QmpEvent): GuestStory | undefined {
  const reason = word(data.reason);
  switch (event) {
    case 'RESET':
      return data.guest === true ? tell('Guest rebooted', { reason }) : undefined;
    case 'STOP':
      return tell('Guest paused');
    case 'RESUME':
      return tell('Guest resumed');
    case 'GUEST_PANICKED':
      return tell('Guest panicked', { action: word(data.action) });
    case 'WATCHDOG':
      return tell('Watchdog fired', { action: word(data.action) });
    case 'BLOCK_IO_ERROR':
      return tell('Disk error', {
        device: word(data.device),
        operation: word(data.operation),
      });
    case 'SHUTDOWN':
      return data.guest === true ? tell('Guest powered off', { reason }) : undefined;
    default:
      return undefined;
  }
}

/** QEMU's names for things are short, and texts; a QEMU that was taken over sends anything. */
function word(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, 100) : '';
}

function tell(message: string, annotations: Readonly<Record<string, string>> = {}): GuestStory {
  return { message, annotations };
}
