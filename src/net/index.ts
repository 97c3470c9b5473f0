export { NetError } from './model/error.ts';
export type { Net } from './model/net.ts';
export type { AttachedNic, ClaimedNic, NicAddress } from './model/nic.ts';
export { decodeNetUndo, type NetUndo } from './model/undo.ts';
export { Networks } from './networks.ts';
