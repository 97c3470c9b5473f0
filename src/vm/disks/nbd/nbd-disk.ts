import { lookup } from 'node:dns/promises';
import { abortable, within } from '#host';
import type { NbdAddress } from '#qemu';
import { type DiskPlace, type DiskSpec, diskKey, type NbdServer, type Waiting } from '#spec';
import type { Prepared } from '../../devices/device.ts';
import { messageOf, VmError } from '../../error.ts';
import { describe } from '../describe.ts';
import type { CheckedDisk, DiskSeat } from '../disk.ts';
import { remoteDiskIo } from '../io.ts';
import type { NbdExport } from './nbd-handshake.ts';
import { askServer, type NbdPeer } from './nbd-server.ts';

type NbdPlace = Extract<DiskPlace, { kind: 'nbd' }>;

const lookupMs = 5000;
/** QEMU's BDRV_MAX_LENGTH. */
const maxBytes = 2n ** 63n - 2n ** 30n;
/** Requests wait so long for a server that went away; then QEMU pauses the guest, which is resumed at intervals. */
const reconnectSeconds = 10;
/** A server that has stated what its export is reads its first sector within this time, also from a disk that has to spin up. */
const silenceMs = 10_000;

/** Checks a disk that an NBD server has, by asking the server for it. Throws VmError naming the key that is wrong. */
export async function checkNbdDisk(
  spec: DiskSpec,
  place: NbdPlace,
  waiting: Waiting,
): Promise<CheckedDisk> {
  const server = await reach(spec, place, waiting);
  return {
    spec,
    image: undefined,
    prepare: async (seat) => prepare(spec, { place, server, seat }),
    [Symbol.dispose]: () => {},
  };
}

function prepare(
  spec: DiskSpec,
  {
    place,
    server,
    seat,
  }: { readonly place: NbdPlace; readonly server: NbdAddress; readonly seat: DiskSeat },
): Prepared {
  const plan = { format: 'raw', base: undefined, virtualBytes: 0, growBeforeBoot: false } as const;
  return describe({ spec, seat, image: undefined, plan }, textOf(place), {
    io: remoteDiskIo(spec),
    maxFileBytes: 0,
    protocol: { driver: 'nbd', server, export: place.export, reconnectSeconds },
    awaited: { key: diskKey(spec, 'source.nbd'), silenceMs },
  });
}

/** Names are looked up here: QEMU sees no configuration of the host. */
async function reach(spec: DiskSpec, place: NbdPlace, waiting: Waiting): Promise<NbdAddress> {
  try {
    const { peer, address } = await find(place.server, waiting);
    checkExport(spec, await askServer(peer, place.export, waiting));
    return address;
  } catch (cause) {
    waiting.signal.throwIfAborted();
    const text = `the NBD server can't be used: ${messageOf(cause)}`;
    throw new VmError('host', `${diskKey(spec, 'source.nbd')}: ${text}`, {
      cause,
      recoverable: true,
    });
  }
}

async function find(
  server: NbdServer,
  waiting: Waiting,
): Promise<{ readonly peer: NbdPeer; readonly address: NbdAddress }> {
  if ('socket' in server) {
    const { socket: path } = server;
    return { peer: { path }, address: { type: 'unix', path } };
  }
  using limited = within(lookupMs, waiting);
  const { address: host } = await abortable(lookup(server.host), limited);
  const { port } = server;
  return { peer: { host, port }, address: { type: 'inet', host, port: String(port) } };
}

/** What QEMU refuses as well, with a message that names no remedy. */
function checkExport({ readOnly }: DiskSpec, found: NbdExport): void {
  if (found.kind === 'unknown') return;
  if (found.bytes > maxBytes) {
    throw new Error(`its export has ${found.bytes} bytes, more than a disk can have`);
  }
  if (found.readOnly && !readOnly) {
    throw new Error('its export is read-only: set read_only = true');
  }
}

function textOf({ server, export: name }: NbdPlace): string {
  if ('socket' in server) return `nbd+unix:///${name}?socket=${server.socket}`;
  const host = server.host.includes(':') ? `[${server.host}]` : server.host;
  return `nbd://${host}:${server.port}/${name}`;
}
