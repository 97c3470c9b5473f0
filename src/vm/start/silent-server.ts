import { cpuClockNs, type ProcessIdentity, stateOf } from '#host';
import type { Prepared } from '../devices/device.ts';
import { VmError } from '../error.ts';

const lookMs = 250;
/** Of the time between two looks: what a process that only waits uses. */
const idleShare = 0.02;

/**
 * Reports a server of a disk that does not answer while QEMU initialises: QEMU then sleeps, and has no deadline of its
 * own. One that clears memory, or that gets no processor, is not taken for one that waits.
 */
export function watchServers(
  { pid }: ProcessIdentity,
  devices: readonly Prepared[],
  onSilence: (error: VmError) => void,
): Disposable {
  const awaited = devices.flatMap(({ awaited = [] }) => awaited);
  // Which of them QEMU waits for can't be seen.
  const silenceMs = Math.max(0, ...awaited.map((server) => server.silenceMs));
  if (silenceMs === 0) return { [Symbol.dispose]: () => {} };
  let last = { atMs: performance.now(), clockNs: 0 };
  let idleMs = 0;
  const timer = setInterval(() => {
    const now = { atMs: performance.now(), clockNs: cpuClockNs(pid) ?? 0 };
    const spentMs = now.atMs - last.atMs;
    const usedMs = (now.clockNs - last.clockNs) / 1e6;
    idleMs = usedMs < idleShare * spentMs && isAsleep(pid) ? idleMs + spentMs : 0;
    last = now;
    if (idleMs < silenceMs) return;
    clearInterval(timer);
    const keys = awaited.map(({ key }) => key).join(', ');
    const text = `${keys}: QEMU has waited ${silenceMs / 1000} s for an answer of its server`;
    onSilence(new VmError('host', text, { recoverable: true }));
  }, lookMs);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

function isAsleep(pid: number): boolean {
  try {
    return stateOf(pid) === 'S';
  } catch {
    // Not known, for instance where no descriptors are left.
    return false;
  }
}
