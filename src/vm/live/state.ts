import type { DomainState } from '../virtualizer.ts';

const next: Readonly<Record<DomainState, readonly DomainState[]>> = {
  starting: ['running', 'paused', 'stopping', 'exited'],
  running: ['paused', 'stopping', 'exited'],
  paused: ['running', 'stopping', 'exited'],
  stopping: ['exited'],
  exited: [],
};

/** Whether a VM in the state `from` may enter the state `to`. */
export function mayFollow(from: DomainState, to: DomainState): boolean {
  return next[from].includes(to);
}
