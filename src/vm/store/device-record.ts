import * as v from 'valibot';

const text = v.string();
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const id = text;

const known = v.variant('kind', [
  v.object({
    kind: v.literal('disk'),
    id,
    path: text,
    format: text,
    image: text,
    /** The file never becomes longer; absent where an earlier release made it. */
    maxFileBytes: v.exactOptional(count),
  }),
  v.object({
    kind: v.literal('nic'),
    id,
    tap: text,
    mac: text,
    bridge: text,
    ip: v.exactOptional(text),
    /** Label → port inside the guest. */
    portMap: v.record(text, count),
  }),
  v.object({
    kind: v.literal('share'),
    id,
    tag: text,
    source: text,
    target: text,
    type: v.picklist(['virtiofs', '9p']),
  }),
  v.object({ kind: v.literal('seed'), id }),
  /** One with nothing on the host: there is nothing to adopt. */
  v.object({ kind: v.literal('emulated'), id, model: text }),
  v.object({ kind: v.literal('firmware'), id, code: text }),
]);

/** What is written down about one device of a VM. */
export type DeviceRecord = v.InferOutput<typeof known>;
export type RecordedNic = Extract<DeviceRecord, { kind: 'nic' }>;
export type RecordedDisk = Extract<DeviceRecord, { kind: 'disk' }>;

/**
 * A device read back from a record. A kind, or a form of one, that another release wrote is left out: the VM is adopted
 * all the same, and its undo log, not its record, is what it is removed by.
 */
export function decodeDevices(json: readonly unknown[]): readonly DeviceRecord[] {
  return json.flatMap((device) => {
    const result = v.safeParse(known, device);
    return result.success ? [result.output] : [];
  });
}
