export { NetError, type NetErrorCode } from './model/error.ts';
export type { Net } from './model/net.ts';
export type { AttachedNic, KnownNic, NicRecord, NicRequest } from './model/nic.ts';
export { decodeNetUndo, type NetUndo, type UndoWriter } from './model/undo.ts';
export { Networks, type NetworksOptions } from './networks.ts';
