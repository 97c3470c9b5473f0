export { VmError, type VmErrorCode } from './error.ts';
export { releaseLogPipes } from './logs/log-sink.ts';
export { QemuVirtualizer, type VirtualizerOptions } from './qemu-virtualizer.ts';
export type {
  Domain,
  DomainEvent,
  DomainGetter,
  DomainNetwork,
  DomainRecord,
  DomainState,
  DomainUsage,
  ExitResult,
  RecoverSpec,
  StopRequest,
  Virtualizer,
  VirtualizerInfo,
} from './virtualizer.ts';
