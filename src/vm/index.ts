export { askVm } from './control/ask.ts';
export type { DomainFigures, DomainUsage } from './domain-figures.ts';
export { releaseLogPipes } from './logs/log-sink.ts';
export { QemuVirtualizer } from './qemu-virtualizer.ts';
export type {
  Domain,
  DomainEvent,
  DomainGetter,
  DomainRecord,
  ExitResult,
  GuestAction,
  GuestCommand,
  StopRequest,
  TerminalSize,
  Virtualizer,
  VirtualizerInfo,
} from './virtualizer.ts';
