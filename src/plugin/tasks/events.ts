import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { Waiting } from '#spec';
import type { DomainEvent } from '#vm';
import type { DriverTaskEventSchema } from '../gen/driver_pb.ts';

/** The task that an event belongs to. */
export interface TaskName {
  readonly taskId: string;
  readonly taskName: string;
  readonly allocId: string;
}

type Message = MessageInitShape<typeof DriverTaskEventSchema>;

/** A listener that does not read loses the oldest events. */
const maxWaiting = 1000;

/** Passes the events of VMs on to every open stream; with none open, they are dropped. */
export class EventHub {
  readonly #listeners = new Set<(message: Message) => void>();

  publish(task: TaskName, event: DomainEvent): void {
    const message: Message = {
      taskId: task.taskId,
      taskName: task.taskName,
      allocId: task.allocId,
      timestamp: timestampFromMs(event.atMs),
      message: event.message,
      annotations: { ...event.annotations },
    };
    for (const listener of this.#listeners) listener(message);
  }

  /** Ends only when the signal aborts: Nomad would reopen an ended stream in a hot loop. */
  async *stream({ signal }: Waiting): AsyncGenerator<Message> {
    const waiting: Message[] = [];
    let wake = Promise.withResolvers<void>();
    const listener = (message: Message): void => {
      if (waiting.push(message) > maxWaiting) waiting.shift();
      wake.resolve();
    };
    // Wakes the one promise that is waited for: a race against one that lasts as long as the stream would keep each round.
    const end = (): void => wake.resolve();
    signal.addEventListener('abort', end);
    this.#listeners.add(listener);
    try {
      while (!signal.aborted) {
        const next = waiting.shift();
        if (next !== undefined) {
          yield next;
          continue;
        }
        wake = Promise.withResolvers<void>();
        await wake.promise;
      }
    } finally {
      this.#listeners.delete(listener);
      signal.removeEventListener('abort', end);
    }
  }
}
