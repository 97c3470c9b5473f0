export { releaseLogPipes } from './logs/log-sink.ts';
export { QemuVirtualizer } from './qemu-virtualizer.ts';
export type {
  Domain,
  DomainEvent,
  DomainGetter,
  DomainRecord,
  DomainUsage,
  ExitResult,
  StopRequest,
  Virtualizer,
  VirtualizerInfo,
} from './virtualizer.ts';
