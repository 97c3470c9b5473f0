import { lookup } from 'node:dns/promises';
import { stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { abortable, answered, within } from '#host';
import type { NbdAddress } from '#qemu';
import { type DiskPlace, type DiskSpec, diskKey, type NbdServer, type Waiting } from '#spec';
import type { Prepared } from '../devices/device.ts';
import { messageOf, VmError } from '../error.ts';
import { describe } from './describe.ts';
import type { CheckedDisk, DiskSeat } from './disk.ts';
import { remoteDiskIo } from './io.ts';

type NbdPlace = Extract<DiskPlace, { kind: 'nbd' }>;

const answerMs = 5000;
/** Requests wait so long for a server that went away; then QEMU pauses the guest, which is resumed at intervals. */
const reconnectSeconds = 10;
/** What others need to connect to a socket: to write to it. */
const writableByOthers = 0o002;

/** Checks a disk that an NBD server has, by connecting to the server. Throws VmError naming the key that is wrong. */
export async function checkNbdDisk(
  spec: DiskSpec,
  place: NbdPlace,
  waiting: Waiting,
): Promise<CheckedDisk> {
  const server = await reach(spec, place.server, waiting);
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
  });
}

/** Names are looked up here: QEMU sees no configuration of the host. */
async function reach(spec: DiskSpec, server: NbdServer, waiting: Waiting): Promise<NbdAddress> {
  using limited = within(answerMs, waiting);
  try {
    if ('socket' in server) {
      await checkSocket(server.socket, waiting);
      await answers({ path: server.socket }, limited);
      return { type: 'unix', path: server.socket };
    }
    const { address } = await abortable(lookup(server.host), limited);
    await answers({ host: address, port: server.port }, limited);
    return { type: 'inet', host: address, port: String(server.port) };
  } catch (cause) {
    waiting.signal.throwIfAborted();
    const text = `the NBD server does not answer: ${messageOf(cause)}`;
    throw new VmError('host', `${diskKey(spec, 'source.nbd')}: ${text}`, {
      cause,
      recoverable: true,
    });
  }
}

async function checkSocket(path: string, waiting: Waiting): Promise<void> {
  const stats = await answered(path, (named) => stat(named), waiting);
  if (!stats.isSocket()) throw new Error(`${path} is not a socket`);
  if ((stats.mode & writableByOthers) !== 0) return;
  throw new Error(
    `a VM is a user of its own and may not connect to ${path}; allow it: chmod o+w ${path}`,
  );
}

async function answers(
  to: { readonly path: string } | { readonly host: string; readonly port: number },
  waiting: Waiting,
): Promise<void> {
  const socket = connect(to);
  try {
    await abortable(
      new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve);
        socket.once('error', reject);
      }),
      waiting,
    );
  } finally {
    socket.destroy();
  }
}

function textOf({ server, export: name }: NbdPlace): string {
  if ('socket' in server) return `nbd+unix:///${name}?socket=${server.socket}`;
  const host = server.host.includes(':') ? `[${server.host}]` : server.host;
  return `nbd://${host}:${server.port}/${name}`;
}
