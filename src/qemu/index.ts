export { testBareRoot } from './bare-root.ts';
export {
  agentDeviceId,
  agentPort,
  heldFiles,
  interactiveConsole,
  isAgentOpen,
  monitors,
  serialConsole,
} from './channels.ts';
export { type CommandLine, commandLine } from './command-line.ts';
export { type DiskDescription, disk, rawNode, readOnlyDisk, throttleNode } from './disks/disk.ts';
export { type DiskSlot, plugDisks } from './disks/disk-bus.ts';
export { cacheModes, type DiskIo, defaultDiskIo, type NbdAddress } from './disks/disk-protocol.ts';
export { display, displayProblems } from './display.ts';
export { type Emulator, findEmulators } from './emulator.ts';
export { QemuError } from './error.ts';
export {
  type ExecStream,
  execChannel,
  execChannels,
  execDevice,
  execDeviceId,
  execPortOf,
  execPorts,
  execSlots,
  execStreams,
  execTerminal,
} from './exec-ports.ts';
export { usableFirmware } from './firmware.ts';
export { flash } from './flash.ts';
export { ignitionConfig } from './ignition.ts';
export { directKernel } from './kernel.ts';
export { probeKvmForVms, vmGid } from './kvm/access.ts';
export type { KvmVerdict } from './kvm/probe.ts';
export { type MachinePlan, machineProblems, planMachine } from './machine.ts';
export { missingModel, type NicDescription, nic, nicIndexOf, tapRoles, vhostRoles } from './nic.ts';
export type { Part } from './part.ts';
export { balloonId, memoryLimit, type Platform, sparePorts, standardDevices } from './platform.ts';
export { ninePShare, virtiofsShare } from './share.ts';
export { watchdog } from './watchdog.ts';
