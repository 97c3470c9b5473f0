import * as v from 'valibot';

const netUndo = v.variant('kind', [
  /** A managed network was put to use: its bridge is removed with its last VM. */
  v.object({ kind: v.literal('net-bridge'), bridge: v.string() }),
  /** An address was claimed, and with it the port rules that come from the claim. */
  v.object({
    kind: v.literal('net-claim'),
    bridge: v.string(),
    ip: v.string(),
    vm: v.string(),
    index: v.number(),
  }),
  /** A tap was opened. */
  v.object({ kind: v.literal('net-tap'), tap: v.string(), vm: v.string(), index: v.number() }),
  /** A macvtap was made: it outlives the process that has it open. */
  v.object({ kind: v.literal('net-macvtap'), link: v.string(), vm: v.string(), index: v.number() }),
  /** What arrives by a link was bounded by a table of its own. */
  v.object({
    kind: v.literal('net-limit'),
    tap: v.string(),
    netns: v.exactOptional(v.string()),
  }),
  /** A tap and its rules were made in an allocation's namespace. */
  v.object({
    kind: v.literal('net-group'),
    netns: v.string(),
    tap: v.string(),
    vm: v.string(),
    index: v.number(),
    /** Its end of the pair and the guest's addresses. Not in steps of the first releases. */
    gateway: v.exactOptional(v.string()),
    guests: v.exactOptional(v.array(v.string())),
  }),
]);

/** How to take back one thing that a NIC has on the host: plain JSON that is sufficient for another process. */
export type NetUndo = v.InferOutput<typeof netUndo>;

/** undefined when it isn't a step of this room. */
export function decodeNetUndo(json: unknown): NetUndo | undefined {
  const result = v.safeParse(netUndo, json);
  return result.success ? result.output : undefined;
}

/** Writes an undo step to disk before it performs the action. */
export interface UndoWriter {
  perform<T>(step: NetUndo, action: () => T | Promise<T>): Promise<T>;
}
