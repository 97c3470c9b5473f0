import { once } from 'node:events';
import { connect } from 'node:net';
import { addAbortSignal } from 'node:stream';
import type { Json } from '../../src/qemu/part.ts';
import { FrameReader, formatCommand } from '../../src/qmp/frame.ts';
import { parseMessage } from '../../src/qmp/message.ts';

/** What tests do to a VM over its monitor that the driver never does. */
interface TestCommands {
  /** Pauses the guest. */
  readonly stop: Readonly<Record<never, never>>;
  /** Presses the reset button. */
  readonly system_reset: Readonly<Record<never, never>>;
  /** Plugs a device in, by the same JSON as at the start. */
  readonly 'blockdev-add': Json;
  readonly device_add: Json;
}

/** Sends one command to the monitor at `path` in a session of its own, and awaits the answer to it. */
export async function sendCommand<C extends keyof TestCommands>(
  path: string,
  command: C,
  parameters: TestCommands[C],
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  const socket = addAbortSignal(signal, connect({ path }));
  try {
    await once(socket, 'connect', { signal });
    socket.write(formatCommand('qmp_capabilities', {}, 1));
    socket.write(formatCommand(command, parameters, 2));
    const frames = new FrameReader();
    for await (const chunk of socket) {
      for (const text of frames.push(chunk)) {
        const message = parseMessage(text);
        if (message.kind === 'error') throw new Error(`${command}: ${message.description}`);
        if (message.kind === 'reply' && message.id === 2) return;
      }
    }
    throw new Error(`${command}: the monitor closed the session`);
  } finally {
    socket.destroy();
  }
}
