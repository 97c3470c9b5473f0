import { once } from 'node:events';
import { connect, Socket } from 'node:net';
import { closeFd, type Logger, pipeTo, widePipe, within } from '#host';
import {
  type ExecStream,
  execChannel,
  execDevice,
  execDeviceId,
  execPortOf,
  execStreams,
  execTerminal,
} from '#qemu';
import { type QmpClient, QmpError } from '#qmp';
import type { Waiting } from '#spec';
import { messageOf, notConnected } from '../../error.ts';
import { lendFiles } from '../../lent-files.ts';

const unplugMs = 10_000;

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
      if (client === undefined) throw notConnected();
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
  using opened = new DisposableStack();
  const sockets = new Map<ExecStream, Socket>();
  const keep: Keep = (stream, socket) => {
    socket.on('error', () => {});
    sockets.set(
      stream,
      opened.adopt(socket, (it) => it.destroy()),
    );
  };
  await (place.terminal ? plugTerminal : plugStreams)(place, keep, qmp, waiting);
  opened.move();
  return sockets;
}

/** Takes over the host's end of a stream, as soon as there is one. */
type Keep = (stream: ExecStream, socket: Socket) => void;

async function plugStreams(
  place: PortPlace,
  keep: Keep,
  qmp: QmpClient,
  waiting: Waiting,
): Promise<void> {
  for (const stream of execStreams) {
    const path = `${place.dir}/${execChannel(place.slot, stream)}`;
    // Half open: QEMU reads to the end of the input before it takes note of the end.
    const socket = connect({ path, allowHalfOpen: true });
    keep(stream, socket);
    await once(socket, 'connect', waiting);
    await qmp.execute('device_add', execDevice({ ...place, stream }), waiting);
  }
}

/** The host's ends are two pipes: for what is typed, and for what is shown. */
async function plugTerminal(
  place: PortPlace,
  keep: Keep,
  qmp: QmpClient,
  waiting: Waiting,
): Promise<void> {
  const device = { ...place, stream: 'in' } as const;
  using lent = new DisposableStack();
  const typed = pipeTo('write');
  lent.adopt(typed.read, closeFd);
  keep('in', new Socket({ fd: typed.write, readable: false, writable: true }));
  const shown = widePipe('read');
  lent.adopt(shown.write, closeFd);
  keep('out', new Socket({ fd: shown.read, readable: true, writable: false }));
  const add = (path: string) =>
    qmp.execute('chardev-add', execTerminal(execDeviceId(device), path), waiting);
  await lendFiles([typed.read, shown.write], qmp, add, waiting);
  await qmp.execute('device_add', execDevice(device), waiting);
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
    if (await remove('device_del', id, qmp, waiting)) leaving.add(id);
  }
  while (leaving.size > 0) {
    const { value, done } = await events.next();
    if (done === true) return;
    if (value.event === 'DEVICE_DELETED') leaving.delete(value.data.device);
  }
  await remove('chardev-remove', execDeviceId({ slot, session, stream: 'in' }), qmp, waiting);
}

/** The slots of the commands whose ports are there, by their session. */
export async function leftPorts(
  qmp: QmpClient,
  waiting: Waiting,
): Promise<ReadonlyMap<string, number>> {
  const peripherals = await qmp.execute('qom-list', { path: '/machine/peripheral' }, waiting);
  const terminals = await qmp.execute('query-chardev', {}, waiting);
  const names = [...peripherals.map(({ name }) => name), ...terminals.map(({ label }) => label)];
  return new Map(
    names.flatMap((name) => {
      const port = execPortOf(name);
      return port === undefined ? [] : [[port.session, port.slot] as const];
    }),
  );
}

/** false: it is not there. */
async function remove(
  command: 'device_del' | 'chardev-remove',
  id: string,
  qmp: QmpClient,
  waiting: Waiting,
): Promise<boolean> {
  try {
    await qmp.execute(command, { id }, waiting);
    return true;
  } catch (error) {
    if (error instanceof QmpError && error.code === 'command') return false;
    throw error;
  }
}
