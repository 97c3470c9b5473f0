import { once } from 'node:events';
import { connect, Socket } from 'node:net';
import { closeFd, type Logger, pipeTo, sendWithDescriptor, widePipe, within } from '#host';
import {
  type ExecStream,
  execChannel,
  execDevice,
  execDeviceId,
  execPortOf,
  execStreams,
  execTerminal,
} from '#qemu';
import { passFile, type QmpClient, QmpError } from '#qmp';
import type { Waiting } from '#spec';
import { messageOf, VmError } from '../error.ts';

const unplugMs = 10_000;
const releaseMs = 10_000;

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
  const { dir, slot } = place;
  if (place.terminal) return await plugTerminal(place, qmp, waiting);
  const sockets = new Map<ExecStream, Socket>();
  try {
    for (const stream of execStreams) {
      const path = `${dir}/${execChannel(slot, stream)}`;
      // Half open: QEMU reads to the end of the input before it takes note of the end.
      const socket = connect({ path, allowHalfOpen: true });
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

/** The host's ends first, as always. */
async function plugTerminal(
  place: PortPlace,
  qmp: QmpClient,
  waiting: Waiting,
): Promise<ReadonlyMap<ExecStream, Socket>> {
  const device = { ...place, stream: 'in' } as const;
  const sockets = await openTerminal(execDeviceId(device), qmp, waiting);
  try {
    await qmp.execute('device_add', execDevice(device), waiting);
    return sockets;
  } catch (error) {
    for (const socket of sockets.values()) socket.destroy();
    throw error;
  }
}

/** The host's ends of a terminal that QEMU knows by this id: what is typed, and what is shown. */
async function openTerminal(
  id: string,
  qmp: QmpClient,
  waiting: Waiting,
): Promise<ReadonlyMap<ExecStream, Socket>> {
  using opened = new DisposableStack();
  using passed = new DisposableStack();
  const typed = pipeTo('write');
  opened.adopt(typed.write, closeFd);
  passed.adopt(typed.read, closeFd);
  const shown = widePipe('read');
  opened.adopt(shown.read, closeFd);
  passed.adopt(shown.write, closeFd);
  await addTerminal(id, { input: typed.read, output: shown.write }, qmp, waiting);
  opened.move();
  const sockets = new Map<ExecStream, Socket>([
    ['in', new Socket({ fd: typed.write, readable: false, writable: true })],
    ['out', new Socket({ fd: shown.read, readable: true, writable: false })],
  ]);
  for (const socket of sockets.values()) socket.on('error', () => {});
  return sockets;
}

async function addTerminal(
  id: string,
  { input, output }: { readonly input: number; readonly output: number },
  qmp: QmpClient,
  waiting: Waiting,
): Promise<void> {
  const passing = (fd: number) => sendWithDescriptor.bind(null, fd);
  const set = await passFile(passing(input), { qmp }, waiting);
  try {
    await passFile(passing(output), { qmp, set }, waiting);
    const path = `/dev/fdset/${set['fdset-id']}`;
    await qmp.execute('chardev-add', execTerminal(id, path), waiting);
  } finally {
    // QEMU has them open by other descriptors now.
    using ending = within(releaseMs);
    await qmp.execute('remove-fd', set, ending).catch(() => {});
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
