import * as v from 'valibot';

const netUndo = v.variant('kind', [
  /** A managed network was put to use: its bridge goes when nobody is in it any more. */
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
]);

/** What undoes one thing a NIC has on the host; plain JSON, and all that another process needs. */
export type NetUndo = v.InferOutput<typeof netUndo>;

/** undefined when it isn't a step of this room. */
export function decodeNetUndo(json: unknown): NetUndo | undefined {
  const result = v.safeParse(netUndo, json);
  return result.success ? result.output : undefined;
}

/** Who writes an undo step down before its action is done. */
export interface UndoWriter {
  perform<T>(step: NetUndo, action: () => T | Promise<T>): Promise<T>;
}
