export { VmError, type VmErrorCode } from './error.ts';
export { releaseLogPipes } from './log-sink.ts';
export { QemuVirtualizer, type VirtualizerOptions } from './qemu.ts';
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
