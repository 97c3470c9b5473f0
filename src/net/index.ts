export { NetError, type NetErrorCode } from './error.ts';
export type { Net } from './net.ts';
export { Networks, type NetworksOptions } from './networks.ts';
export type { AttachedNic, KnownNic, NicRecord, NicRequest } from './nic.ts';
export { decodeNetUndo, type NetUndo, type UndoWriter } from './undo.ts';
