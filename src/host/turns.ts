import { setImmediate as immediate } from 'node:timers/promises';

/** Acts on all of them, in their order. After each `perTurn` of them everything else that waits has its turn. */
export async function inTurns<T>(
  all: readonly T[],
  perTurn: number,
  act: (one: T) => void,
): Promise<void> {
  for (const [index, one] of all.entries()) {
    if (index > 0 && index % perTurn === 0) await immediate();
    act(one);
  }
}
