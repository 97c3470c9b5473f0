import { type Json, option, type Part } from './part.ts';

/** How many commands can run in the guest at the same time. */
export const execSlots = 8;

/** The streams of a command; a terminal is one port, in the place of `in`. */
export const execStreams = ['in', 'out', 'err'] as const;
export type ExecStream = (typeof execStreams)[number];

export function execChannel(slot: number, stream: ExecStream): string {
  return `exec${slot}-${stream}`;
}

/** Every channel of every slot, in order: also the roles of their files. */
export const execChannels: readonly string[] = Array.from({ length: execSlots }, (_, slot) =>
  execStreams.map((stream) => execChannel(slot, stream)),
).flat();

/**
 * The host's ends of the streams, on listening sockets. The guest's ends are plugged in for a command, because Linux
 * takes half a MiB of the guest's memory for each port.
 */
export function execPorts(): Part {
  return {
    id: 'exec',
    files: execChannels.map((role) => ({ role, as: 'fd' })),
    options: (at) =>
      execChannels.map((id) =>
        option('chardev', `socket,id=${id},fd=${at.fd(id)},server=on,wait=off`),
      ),
  };
}

/** 0 is kept for a console, 1 is the agent's. */
const firstPort = 2;

export interface ExecPort {
  readonly slot: number;
  readonly stream: ExecStream;
  /** Unique for each command; the guest finds the port by it. */
  readonly session: string;
  readonly terminal: boolean;
}

/** The guest's end of a stream, as `device_add` takes it. A console has no name in the guest. */
export function execDevice(port: ExecPort): Json {
  const { slot, stream, session, terminal } = port;
  const nr = firstPort + slot * execStreams.length + execStreams.indexOf(stream);
  const name = terminal ? {} : { name: `exec.${session}.${stream}` };
  return {
    driver: terminal ? 'virtconsole' : 'virtserialport',
    bus: 'serialbus0.0',
    nr,
    chardev: terminal ? execDeviceId(port) : execChannel(slot, stream),
    id: execDeviceId(port),
    ...name,
  };
}

/**
 * The host's end of a terminal, as `chardev-add` takes it, under the id of its device: two pipes, of which `path` has QEMU's
 * ends. QEMU drops what does not fit, and a pipe holds bytes, while a socket holds 278 writes, of two bytes for each end of a line.
 */
export function execTerminal(id: string, path: string): Json {
  // Without `append` QEMU truncates its output, which is an error for a pipe.
  return { id, backend: { type: 'file', data: { in: path, out: path, append: true } } };
}

export function execDeviceId({ slot, stream, session }: Omit<ExecPort, 'terminal'>): string {
  return `exec.${slot}.${session}.${stream}`;
}

/** The port that a device's id stands for; undefined for any other device. */
export function execPortOf(deviceId: string): Omit<ExecPort, 'terminal'> | undefined {
  const [, slot, session = '', name] = /^exec\.(\d+)\.([0-9a-f]+)\.(\w+)$/.exec(deviceId) ?? [];
  const stream = execStreams.find((stream) => stream === name);
  return stream === undefined ? undefined : { slot: Number(slot), session, stream };
}
