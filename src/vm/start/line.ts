import {
  agentPort,
  type CommandLine,
  commandLine,
  execPorts,
  heldFiles,
  interactiveConsole,
  monitors,
  type Part,
  type Platform,
  serialConsole,
  sparePorts,
  standardDevices,
} from '#qemu';

/**
 * The command line of a VM with these devices. `logPipes` are the roles of the task's log pipes that QEMU holds. The
 * order determines the slots on the PCI bus, and with them the names that a guest gives its disks and NICs.
 */
export function lineOf(
  platform: Platform,
  devices: readonly Part[],
  logPipes: readonly string[],
): CommandLine {
  const { machine } = platform;
  return commandLine(platform, [
    monitors(),
    serialConsole(machine),
    heldFiles('logs', logPipes),
    ...devices,
    standardDevices(machine),
    interactiveConsole(),
    agentPort(),
    execPorts(),
    sparePorts(machine),
  ]);
}
