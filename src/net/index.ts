export type { AdoptRecord, AttachedNic } from './attached.ts';
export type { NetworkDescription } from './description.ts';
export { NetError, type NetErrorCode } from './error.ts';
export { Networks, type NetworksOptions } from './networks.ts';
export type { NetPlan, NicRequest } from './plan.ts';
export { decodeNetUndo, type NetUndo, type UndoWriter } from './undo.ts';
