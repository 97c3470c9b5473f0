import * as v from 'valibot';

const text = v.string();
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const id = text;
/** Bytes per second. */
const bandwidth = v.exactOptional(
  v.object({ in: v.exactOptional(count), out: v.exactOptional(count) }),
);

const known = v.variant('kind', [
  v.object({
    kind: v.literal('disk'),
    id,
    path: text,
    format: text,
    image: text,
    /** Maximum length of the file; absent where an earlier release created it. */
    maxFileBytes: v.exactOptional(count),
    /** As in the job, e.g. `vda`. Since the second release, as the next. */
    name: v.exactOptional(text),
    cache: v.exactOptional(text),
    aio: v.exactOptional(text),
    /** What the guest sees as its size, where the driver decides that. Since the fourth release. */
    virtualBytes: v.exactOptional(count),
    /** All of its file's space is allocated. */
    allocated: v.exactOptional(v.boolean()),
    /** How QEMU reaches it, where that is an NBD server. Since the fifth release. */
    nbd: v.exactOptional(
      v.object({
        server: v.variant('type', [
          v.object({ type: v.literal('inet'), host: text, port: text }),
          v.object({ type: v.literal('unix'), path: text }),
        ]),
        discard: v.boolean(),
      }),
    ),
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
    bandwidth,
    /** What its managed network has on disk about it. Since the fifth release. */
    kept: v.exactOptional(v.unknown()),
  }),
  v.object({
    kind: v.literal('macvtap-nic'),
    id,
    link: text,
    mac: text,
    device: text,
    mode: text,
    ip: v.exactOptional(text),
    bandwidth,
  }),
  /** Of QEMU's user-mode network. */
  v.object({ kind: v.literal('user-nic'), id, mac: text, portMap: v.record(text, count) }),
  /** In the network namespace of the allocation. */
  v.object({
    kind: v.literal('group-nic'),
    id,
    tap: text,
    mac: text,
    ip: v.exactOptional(text),
    six: v.exactOptional(v.object({ ip: text, gateway: text, guest: text })),
    portMap: v.record(text, count),
    groupPorts: v.exactOptional(v.record(text, count)),
    netns: text,
    gateway: text,
    guest: text,
    mtu: count,
    hostname: text,
    nameservers: v.array(text),
    searches: v.array(text),
    bandwidth,
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
  /** The host's ssh as a way into the guest. */
  v.object({ kind: v.literal('ssh'), id, uid: count, program: text, address: text }),
  /** A device that uses nothing on the host, so that there is nothing to adopt. */
  v.object({ kind: v.literal('emulated'), id, model: text }),
  v.object({ kind: v.literal('firmware'), id, code: text }),
  v.object({
    kind: v.literal('display'),
    id,
    video: text,
    vnc: v.exactOptional(
      v.object({
        /** `address:port` of the host, and the port's label. */
        listen: v.array(v.object({ label: text, address: text })),
      }),
    ),
  }),
]);

/** What the VM's record holds about one device. */
export type DeviceRecord = v.InferOutput<typeof known>;
export type RecordedNic = Extract<DeviceRecord, { kind: 'nic' }>;
export type RecordedDisplay = Extract<DeviceRecord, { kind: 'display' }>;
/** One that another process adopts. */
export type AdoptedNic = Extract<DeviceRecord, { kind: 'nic' | 'macvtap-nic' | 'group-nic' }>;
export type RecordedGroupNic = Extract<DeviceRecord, { kind: 'group-nic' }>;
export type RecordedSsh = Extract<DeviceRecord, { kind: 'ssh' }>;
export type RecordedDisk = Extract<DeviceRecord, { kind: 'disk' }>;

/**
 * The devices read back from a record. A kind, or a form of one, that only another release knows is left out: the VM
 * is adopted nevertheless, and it is removed by its undo log, not by its record.
 */
export function decodeDevices(json: readonly unknown[]): readonly DeviceRecord[] {
  return json.flatMap((device) => {
    const result = v.safeParse(known, device);
    return result.success ? [result.output] : [];
  });
}
