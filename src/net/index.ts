export { NetError, type NetErrorCode } from './error.ts';
export {
  type AdoptRecord,
  type AttachedNic,
  Networks,
  type NetworksOptions,
  type UndoWriter,
} from './networks.ts';
export type { ManagedNetwork, NetPlan, NicRequest } from './plan.ts';
export { decodeNetUndo, type NetUndo } from './undo.ts';
