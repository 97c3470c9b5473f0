import type { Waiting } from '#spec';
import { messageOf, VmError } from '../error.ts';
import type { ExecRequest, GuestCommand } from '../virtualizer.ts';
import { type CommandWay, WayMissing } from './way.ts';

export type WayName = 'agent' | 'ssh';

/** The commands that run in one VM's guest, by the first of its ways that the guest has at the moment. */
export class GuestCommands implements CommandWay {
  readonly #ways: readonly (readonly [WayName, CommandWay])[];

  constructor(ways: readonly (readonly [WayName, CommandWay])[]) {
    this.#ways = ways;
  }

  recover(waiting: Waiting): void {
    for (const [, way] of this.#ways) way.recover(waiting);
  }

  async end(waiting: Waiting): Promise<void> {
    await Promise.all(this.#ways.map(([, way]) => way.end(waiting)));
  }

  reset(): void {
    for (const [, way] of this.#ways) way.reset();
  }

  async start(request: ExecRequest, waiting: Waiting): Promise<GuestCommand> {
    const missing = new Map<WayName, WayMissing>();
    for (const last of [false, true]) {
      for (const [name, way] of this.#ways) {
        if (last && missing.get(name)?.early !== true) continue;
        try {
          return await way.start({ ...request, last }, waiting);
        } catch (error) {
          if (!(error instanceof WayMissing)) throw error;
          missing.set(name, error);
        }
      }
    }
    const several = this.#ways.length > 1;
    throw lacking([...missing].map(([name, error]) => named(name, error, several)));
  }
}

/** One way that the guest may have later is enough. */
function lacking(missing: readonly VmError[]): VmError {
  const [first] = missing;
  if (first !== undefined && missing.length === 1) return first;
  return new VmError('host', missing.map(messageOf).join('; '), {
    cause: new AggregateError(missing),
    recoverable: missing.some(({ recoverable }) => recoverable),
  });
}

function named(name: WayName, error: WayMissing, several: boolean): VmError {
  if (!several) return error;
  const { message, recoverable } = error;
  return new VmError('host', `by ${name}: ${message}`, { cause: error, recoverable });
}
