import { lookup } from 'node:dns/promises';
import { abortable, memfd, within } from '#host';
import type { OpenImage } from '#image';
import { type DiskSpec, diskKey, type Waiting, wholeSectors } from '#spec';
import type { Prepared, Site } from '../devices/device.ts';
import { asVmError, VmError } from '../error.ts';
import { type CephPool, Rbd } from '../store/rbd.ts';
import { describe } from './describe.ts';
import type { CheckedDisk, DiskHost, DiskSeat } from './disk.ts';
import { remoteDiskIo } from './io.ts';
import { openSource } from './source.ts';

const lookupMs = 5000;
const defaultPort = 6789;
/** A cluster that has lost a part of itself answers once the others have agreed on that. */
const silenceMs = 30_000;

/** Checks a disk that becomes an image of a Ceph pool. Throws VmError naming the key that is wrong. */
export async function checkRbdDisk(
  spec: DiskSpec,
  pool: CephPool,
  host: DiskHost,
  waiting: Waiting,
): Promise<CheckedDisk> {
  const { source } = spec;
  if (source?.kind === 'volume' && spec.chained && !source.volume.includes('@')) {
    const text = 'a chained disk is a clone of a snapshot: write "image@snapshot"';
    throw new VmError('job', `${diskKey(spec, 'source.volume')}: ${text}`);
  }
  if (source?.kind === 'image' && spec.chained) {
    const text =
      'in a Ceph pool only a volume can be chained to; import the image into the pool once';
    throw new VmError('job', `${diskKey(spec, 'chained')}: ${text}`);
  }
  const wanted = { pool: undefined, to: 'raw', host } as const;
  const content = source?.kind === 'image' ? await openSource(spec, wanted, waiting) : undefined;
  try {
    const sourceBytes =
      source?.kind === 'volume'
        ? await volumeBytes(spec, { pool, name: source.volume }, waiting)
        : content?.facts?.virtualBytes;
    // The size of what is compressed is known when it was imported.
    if (content === undefined || content.facts !== undefined) sizeOf(spec, sourceBytes);
    return {
      spec,
      get image() {
        return content?.image;
      },
      prepare: async (seat, site, waiting) => {
        const image = await content?.ready(site, waiting);
        const from = image?.virtualBytes ?? sourceBytes;
        const bytes = sizeOf(spec, from);
        return prepare({ spec, pool, image, bytes, seat, grown: bytes !== from }, site, waiting);
      },
      [Symbol.dispose]: () => content?.[Symbol.dispose](),
    };
  } catch (error) {
    content?.[Symbol.dispose]();
    throw error;
  }
}

async function volumeBytes(
  spec: DiskSpec,
  { pool, name }: { readonly pool: CephPool; readonly name: string },
  waiting: Waiting,
): Promise<number> {
  const key = diskKey(spec, 'source.volume');
  const { bytes } = await withKey(key, () => new Rbd(pool).info(name, waiting), waiting);
  return bytes;
}

async function withKey<T>(key: string, step: () => Promise<T>, { signal }: Waiting): Promise<T> {
  try {
    return await step();
  } catch (cause) {
    signal.throwIfAborted();
    const { code, recoverable, message } = asVmError(cause);
    throw new VmError(code, `${key}: ${message}`, { cause, recoverable });
  }
}

function sizeOf(spec: DiskSpec, sourceBytes: number | undefined): number {
  const bytes = spec.sizeBytes ?? sourceBytes;
  if (bytes === undefined) {
    throw new VmError('job', `${diskKey(spec, 'size')} is required for a disk without a source`);
  }
  if (sourceBytes === undefined || bytes >= sourceBytes) return wholeSectors(bytes);
  const text = `${bytes} bytes are less than the source's ${sourceBytes}`;
  throw new VmError('job', `${diskKey(spec, 'size')}: ${text}`);
}

interface ToCreate {
  readonly spec: DiskSpec;
  readonly pool: CephPool;
  readonly image: OpenImage | undefined;
  readonly bytes: number;
  readonly seat: DiskSeat;
  /** Whether the disk is larger than its source. */
  readonly grown: boolean;
}

async function prepare(wanted: ToCreate, site: Site, waiting: Waiting): Promise<Prepared> {
  const { spec, pool, image, bytes, seat } = wanted;
  const name = `${site.vm}_${spec.name}`;
  await site.undo.perform(
    { kind: 'rbd', pool: pool.name, image: name },
    () => withKey(diskKey(spec, 'pool'), () => create(wanted, name, waiting), waiting),
    { lasting: true },
  );
  site.files.add(`${seat.id}-key`, memfd('ceph-key', Buffer.from(pool.secret)));
  const plan = {
    format: 'raw',
    base: undefined,
    virtualBytes: bytes,
    growBeforeBoot: false,
  } as const;
  const servers = await serversOf(pool, waiting);
  return describe({ spec, seat, image, plan }, `rbd:${pool.pool}/${name}`, {
    io: remoteDiskIo(spec),
    maxFileBytes: 0,
    protocol: { driver: 'rbd', pool: pool.pool, image: name, user: pool.username, servers },
    awaited: { key: diskKey(spec, 'pool'), silenceMs },
  });
}

async function create(
  { spec: { source, chained }, pool, image, bytes, grown }: ToCreate,
  name: string,
  waiting: Waiting,
): Promise<void> {
  const rbd = new Rbd(pool);
  if (source === undefined) {
    await rbd.create(name, bytes, waiting);
    return;
  }
  if (image !== undefined) await rbd.upload(image.fd, name, waiting);
  if (source.kind === 'volume' && chained) await rbd.clone(source.volume, name, waiting);
  if (source.kind === 'volume' && !chained) await rbd.copy(source.volume, name, waiting);
  if (grown) await rbd.resize(name, bytes, waiting);
}

/** Names are looked up here: QEMU has no resolver. */
async function serversOf(
  { hosts }: CephPool,
  waiting: Waiting,
): Promise<readonly { readonly host: string; readonly port: string }[]> {
  using limited = within(lookupMs, waiting);
  return await Promise.all(
    hosts.map(async ({ host, port = defaultPort }) => {
      const { address } = await abortable(lookup(host), limited);
      return { host: address, port: String(port) };
    }),
  );
}
