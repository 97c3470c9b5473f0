import type { MachinePlan } from './machine.ts';
import { device, option, type Part } from './part.ts';

/** QMP on a listening socket (file `qmp`), and the journal: a second monitor on stdin and stdout. */
export function monitors(): Part {
  return {
    id: 'monitors',
    files: [{ role: 'qmp', as: 'fd' }],
    options: (at) => [
      option('chardev', `socket,id=qmp,fd=${at.fd('qmp')},server=on,wait=off`),
      option('mon', 'chardev=qmp,mode=control'),
      // QEMU writes every event there with no client connected.
      option('chardev', 'stdio,id=journal,signal=off'),
      option('mon', 'chardev=journal,mode=control'),
    ],
  };
}

/** The serial port, connected to nothing but its log file (`console`), which is bounded: the guest is never blocked. */
export function serialConsole({ family }: MachinePlan): Part {
  return {
    id: 'console',
    files: [{ role: 'console', as: { set: 'console' } }],
    options: (at) => [
      option('chardev', `null,id=console,logfile=${at.path('console')},logappend=on`),
      family === 'virt'
        ? option('serial', 'chardev:console')
        : device({ driver: 'isa-serial', chardev: 'console', id: 'serial0' }),
    ],
  };
}

/**
 * The console that people work at, on a listening socket (file `hvc`) and in a history (file `hvc-log`): the guest's
 * `hvc0`, where systemd starts a login. What no client reads is dropped, so the guest is never blocked. Needs the bus of
 * the standard devices.
 */
export function interactiveConsole(): Part {
  return {
    id: 'hvc',
    files: [
      { role: 'hvc', as: 'fd' },
      { role: 'hvc-log', as: { set: 'hvc-log' } },
    ],
    options: (at) => {
      const log = `logfile=${at.path('hvc-log')},logappend=on`;
      return [
        option('chardev', `socket,id=hvc0,fd=${at.fd('hvc')},server=on,wait=off,${log}`),
        device({
          driver: 'virtconsole',
          bus: 'serialbus0.0',
          nr: 0,
          chardev: 'hvc0',
          id: 'console0',
        }),
      ];
    },
  };
}

const agentChannel = 'agent';
/** QEMU reports under this id that the guest opens the agent's port, or closes it. */
export const agentDeviceId = 'agent0';

/** The port of the guest agent on a listening socket (file `agent`). Needs the bus of the standard devices. */
export function agentPort(): Part {
  return {
    id: 'agent',
    files: [{ role: agentChannel, as: 'fd' }],
    options: (at) => [
      option('chardev', `socket,id=${agentChannel},fd=${at.fd(agentChannel)},server=on,wait=off`),
      device({
        driver: 'virtserialport',
        chardev: agentChannel,
        name: 'org.qemu.guest_agent.0',
        id: agentDeviceId,
      }),
    ],
  };
}

/**
 * Whether a process in the guest has opened its end of the agent's port, by the answer to `query-chardev`; undefined
 * where there is no such port.
 */
export function isAgentOpen(
  ports: readonly { readonly label: string; readonly 'frontend-open': boolean }[],
): boolean | undefined {
  return ports.find(({ label }) => label === agentChannel)?.['frontend-open'];
}

/** Files that QEMU holds open and never uses, so that their readers see no end of file while it runs. */
export function heldFiles(id: string, roles: readonly string[]): Part {
  return { id, files: roles.map((role) => ({ role, as: 'fd' })), options: () => [] };
}
