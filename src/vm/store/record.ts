import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { writeAtomic } from '#host';
import { messageOf, VmError } from '../error.ts';

const text = v.string();
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

const cgroup = v.object({
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
  image: text,
  diskPath: text,
  diskFormat: v.exactOptional(text),
  /** The disk's file never becomes longer. */
  longestDiskBytes: v.exactOptional(count),
  runDir: text,
  startedAtMs: count,
  oomKillsBefore: count,
  cgroup: v.exactOptional(cgroup),
  nics: v.array(nic),
});

/**
 * What is written down about a VM in its directory before QEMU exists: enough for another process to adopt it, for a
 * person to know whose it is, and nothing secret.
 */
export type VmRecord = v.InferOutput<typeof schema>;

/** Writes the record whole or not at all. */
export async function writeRecord(path: string, record: VmRecord): Promise<void> {
  await writeAtomic(path, `${JSON.stringify(record, undefined, 2)}\n`, { mode: 0o600 });
}

/** Reads a record back; undefined when there is none. Throws VmError 'recover' when it makes no sense. */
export async function readRecord(path: string): Promise<VmRecord | undefined> {
  let content: string;
  try {
    content = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new VmError('recover', `reading ${path}: ${messageOf(error)}`, { cause: error });
  }
  return decodeRecord(content, path);
}

/** Decodes a record's text, naming every field that is wrong. */
export function decodeRecord(content: string, path: string): VmRecord {
  let json: unknown;
  try {
    json = JSON.parse(content);
  } catch (error) {
    throw new VmError('recover', `${path} is not JSON: ${messageOf(error)}`, { cause: error });
  }
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const problems = result.issues.map((it) => `${v.getDotPath(it) ?? 'record'}: ${it.message}`);
  throw new VmError('recover', `${path} can't be read: ${problems.join('; ')}`);
}
