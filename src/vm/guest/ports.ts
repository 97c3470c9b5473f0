import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type Logger, within } from '#host';
import {
  type ExecStream,
  execChannel,
  execDevice,
  execDeviceId,
  execPortOf,
  execStreams,
} from '#qemu';
import { type QmpClient, QmpError } from '#qmp';
import type { Waiting } from '#spec';
import { messageOf, VmError } from '../error.ts';

const unplugMs = 10_000;

/** QEMU drops the output of a terminal that is not read: more of it is kept here than of a stream. */
const terminalBytes = 1024 * 1024;

export interface PortPlace {
  /** Directory of the sockets. */
  readonly dir: string;
  readonly slot: number;
  readonly session: string;
  readonly terminal: boolean;
}

export interface PortsOptions {
  /** undefined while there is no connection. */
  readonly qmp: () => QmpClient | undefined;
  readonly log: Logger;
}

/** The ports of the commands in one VM's guest. */
export class Ports {
  readonly #options: PortsOptions;
  /** Sessions whose ports could not be removed, as without a connection to QEMU, by the slot that they are in. */
  readonly #left = new Map<number, string>();

  constructor(options: PortsOptions) {
    this.#options = options;
  }

  /** A command's streams: the host's ends connected, then the guest's ends plugged in. */
  async plug(
    place: PortPlace,
    qmp: QmpClient,
    waiting: Waiting,
  ): Promise<ReadonlyMap<ExecStream, Socket>> {
    const { slot } = place;
    const session = this.#left.get(slot);
    if (session !== undefined) await unplugPorts({ slot, session }, qmp, waiting);
    this.#left.delete(slot);
    return await plugPorts(place, qmp, waiting);
  }

  /** Never rejects: what can not be removed now is removed when its slot is used again. */
  async unplug(place: Pick<PortPlace, 'slot' | 'session'>): Promise<void> {
    const { qmp, log } = this.#options;
    try {
      const client = qmp();
      if (client === undefined) throw new VmError('host', 'QEMU does not answer at the moment');
      using limited = within(unplugMs);
      await unplugPorts(place, client, limited);
    } catch (error) {
      log.debug('ports not removed', { session: place.session, error: messageOf(error) });
      this.#left.set(place.slot, place.session);
    }
  }
}

async function plugPorts(
  place: PortPlace,
  qmp: QmpClient,
  waiting: Waiting,
): Promise<ReadonlyMap<ExecStream, Socket>> {
  const { dir, slot, terminal } = place;
  const sockets = new Map<ExecStream, Socket>();
  try {
    for (const stream of terminal ? (['in'] as const) : execStreams) {
      const path = `${dir}/${execChannel(slot, stream)}`;
      const highWaterMark = terminal ? { highWaterMark: terminalBytes } : {};
      // Half open: QEMU reads to the end of the input before it takes note of the end.
      const socket = connect({ path, allowHalfOpen: true, ...highWaterMark });
      socket.on('error', () => {});
      sockets.set(stream, socket);
      await once(socket, 'connect', waiting);
      await qmp.execute('device_add', execDevice({ ...place, stream }), waiting);
    }
    return sockets;
  } catch (error) {
    for (const socket of sockets.values()) socket.destroy();
    throw error;
  }
}

/** Removes the guest's ends; returns once they are gone. Of those that are not there it does nothing. */
async function unplugPorts(
  { slot, session }: Pick<PortPlace, 'slot' | 'session'>,
  qmp: QmpClient,
  waiting: Waiting,
): Promise<void> {
  await using events = qmp.events(waiting);
  const leaving = new Set<unknown>();
  for (const stream of execStreams) {
    const id = execDeviceId({ slot, session, stream });
    if (await remove(id, qmp, waiting)) leaving.add(id);
  }
  while (leaving.size > 0) {
    const { value, done } = await events.next();
    if (done === true) return;
    if (value.event === 'DEVICE_DELETED') leaving.delete(value.data.device);
  }
}

/** The slots of the commands whose ports are there, by their session. */
export async function leftPorts(
  qmp: QmpClient,
  waiting: Waiting,
): Promise<ReadonlyMap<string, number>> {
  const peripherals = await qmp.execute('qom-list', { path: '/machine/peripheral' }, waiting);
  return new Map(
    peripherals.flatMap(({ name }) => {
      const port = execPortOf(name);
      return port === undefined ? [] : [[port.session, port.slot] as const];
    }),
  );
}

async function remove(id: string, qmp: QmpClient, waiting: Waiting): Promise<boolean> {
  try {
    await qmp.execute('device_del', { id }, waiting);
    return true;
  } catch (error) {
    if (error instanceof QmpError && error.code === 'command') return false;
    throw error;
  }
}
