import type { CommandExit } from '../virtualizer.ts';

const noSignal = 128;
const maxSignal = 64;

/** A shell reports a signal as 128 and its number. */
export function exitOf(code: number, signal = 0): CommandExit {
  const number =
    signal === 0 && code > noSignal && code <= noSignal + maxSignal ? code - noSignal : signal;
  return { exitCode: number > 0 ? noSignal + number : code, signal: number };
}
