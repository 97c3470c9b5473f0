import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { type CgroupPlan, errnoOf, writeAtomic } from '#host';
import { messageOf, VmError } from '../error.ts';
import {
  type AdoptedNic,
  type DeviceRecord,
  decodeDevices,
  type RecordedDisk,
  type RecordedDisplay,
  type RecordedGroupNic,
  type RecordedNic,
  type RecordedSsh,
} from './device-record.ts';

const text = v.string();
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

const cgroupPlan = v.object({
  version: v.picklist([1, 2]),
  groups: v.array(text),
  writes: v.array(v.object({ file: text, value: text })),
  oomFile: v.optional(text),
});

const nic = v.object({
  tap: text,
  mac: text,
  bridge: text,
  ip: v.exactOptional(text),
  portMap: v.record(text, count),
});

const ready = v.object({
  agent: v.boolean(),
  port: v.exactOptional(v.object({ address: text, port: count })),
  log: v.exactOptional(text),
  timeoutMs: count,
  fail: v.boolean(),
});
export type RecordedReady = v.InferOutput<typeof ready>;

/**
 * The form of the first release, which only grows: additions are optional, unknown fields are ignored, and the version
 * number stays. Therefore a VM is adopted by releases before and after the one that started it.
 */
const schema = v.object({
  version: v.literal(1),
  name: text,
  uuid: text,
  dataDir: text,
  nodeId: text,
  taskId: text,
  taskName: text,
  allocId: text,
  groupName: text,
  jobId: text,
  jobName: text,
  namespace: text,
  nodeName: text,
  allocDir: text,
  machine: text,
  accelerator: text,
  vcpus: count,
  memoryMiB: count,
  uid: count,
  runDir: text,
  startedAtMs: count,
  oomKillsBefore: count,
  cgroup: v.exactOptional(cgroupPlan),
  /** Processes that serve the VM's devices. Since the second release, as the next. */
  helpers: v.exactOptional(v.array(v.object({ pid: count, startTicks: text }))),
  devices: v.exactOptional(v.array(v.unknown())),
  /** How commands are run in the guest, as the job configures it. Since the third release. */
  exec: v.exactOptional(
    v.object({
      user: v.exactOptional(text),
      via: v.exactOptional(v.picklist(['agent', 'ssh'])),
      onHangUp: v.exactOptional(v.pipe(v.array(text), v.readonly())),
    }),
  ),
  /** When the guest counts as ready, as the job defines it. Since the fourth release. */
  ready: v.exactOptional(ready),
  /** Since the fourth release, as the next. */
  driverName: v.exactOptional(text),
  /** A console beside the serial one. */
  interactiveConsole: v.exactOptional(v.boolean()),
  // The first release had one disk and no list of devices; it needs these to adopt a VM after a downgrade.
  image: text,
  diskPath: text,
  diskFormat: v.exactOptional(text),
  nics: v.array(nic),
});

type Stored = v.InferOutput<typeof schema>;
type FirstRelease = 'cgroup' | 'devices' | 'image' | 'diskPath' | 'diskFormat' | 'nics';

/**
 * The record of a VM in its directory: enough for another process to adopt it and for an operator to see which task it
 * belongs to, and nothing secret.
 */
export interface VmRecord extends Omit<Stored, FirstRelease | 'version'> {
  readonly cgroup?: CgroupPlan;
  readonly devices: readonly DeviceRecord[];
}

export function nicsOf({ devices }: Pick<VmRecord, 'devices'>): readonly RecordedNic[] {
  return devices.filter((device) => device.kind === 'nic');
}

/** Those that have something on the host which another process takes over. */
export function adoptedNicsOf({ devices }: Pick<VmRecord, 'devices'>): readonly AdoptedNic[] {
  return devices.filter(
    (device) =>
      device.kind === 'nic' || device.kind === 'macvtap-nic' || device.kind === 'group-nic',
  );
}

/** Those with an address and a place on the host: all but those of QEMU's own. */
export function hostNicsOf({
  devices,
}: Pick<VmRecord, 'devices'>): readonly (RecordedNic | RecordedGroupNic)[] {
  return devices.filter((device) => device.kind === 'nic' || device.kind === 'group-nic');
}

export function disksOf({ devices }: Pick<VmRecord, 'devices'>): readonly RecordedDisk[] {
  return devices.filter((device) => device.kind === 'disk');
}

export function displaysOf({ devices }: Pick<VmRecord, 'devices'>): readonly RecordedDisplay[] {
  return devices.filter((device) => device.kind === 'display');
}

export function sshOf({ devices }: Pick<VmRecord, 'devices'>): RecordedSsh | undefined {
  return devices.find((device) => device.kind === 'ssh');
}

/** Writes the record whole or not at all. */
export async function writeRecord(path: string, record: VmRecord): Promise<void> {
  await writeAtomic(path, `${JSON.stringify(encode(record), undefined, 2)}\n`, { mode: 0o600 });
}

function encode(record: VmRecord): Stored {
  const [disk] = disksOf(record);
  const { cgroup, ...rest } = record;
  return {
    version: 1,
    ...rest,
    ...(cgroup === undefined ? {} : { cgroup: copy(cgroup) }),
    devices: [...record.devices],
    image: disk?.image ?? '',
    diskPath: disk?.path ?? '',
    ...(disk === undefined ? {} : { diskFormat: disk.format }),
    nics: nicsOf(record).map(({ kind: _kind, id: _id, kept: _kept, ...own }) => own),
  };
}

function copy({ groups, writes, ...plan }: CgroupPlan): NonNullable<Stored['cgroup']> {
  return { ...plan, groups: [...groups], writes: [...writes] };
}

/** Reads a record back; undefined when there is none. Throws VmError when it is not valid. */
export async function readRecord(path: string): Promise<VmRecord | undefined> {
  let content: string;
  try {
    content = await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new VmError('host', `reading ${path}: ${messageOf(error)}`, { cause: error });
  }
  return decodeRecord(content, path);
}

/** Decodes a record's text, naming every field that is wrong. */
export function decodeRecord(content: string, path: string): VmRecord {
  let json: unknown;
  try {
    json = JSON.parse(content);
  } catch (error) {
    throw new VmError('host', `${path} is not JSON: ${messageOf(error)}`, { cause: error });
  }
  const result = v.safeParse(schema, json);
  if (!result.success) {
    const problems = result.issues.map(
      (issue) => `${v.getDotPath(issue) ?? 'record'}: ${issue.message}`,
    );
    throw new VmError('host', `${path} can't be read: ${problems.join('; ')}`);
  }
  const { version: _, cgroup, devices, ...others } = result.output;
  const { image, diskPath, diskFormat, nics, ...own } = others;
  const rest =
    cgroup === undefined ? own : { ...own, cgroup: { ...cgroup, oomFile: cgroup.oomFile } };
  if (devices !== undefined) return { ...rest, devices: decodeDevices(devices) };
  const disk: RecordedDisk = {
    kind: 'disk',
    id: 'disk',
    path: diskPath,
    format: diskFormat ?? 'raw',
    image,
  };
  const recorded = nics.map((own, index) => ({ kind: 'nic', id: `net${index}`, ...own }) as const);
  return { ...rest, devices: [disk, ...recorded] };
}
