import type { MachineParts } from './machine.ts';

/** What InspectTask tells of a VM: where to look at it by hand. */
export function attributesOf(parts: MachineParts): Readonly<Record<string, string>> {
  const { record, paths, identity, network } = parts;
  return {
    pid: String(identity.pid),
    uuid: record.uuid,
    machine: record.machine,
    accelerator: record.accelerator,
    disk: record.diskPath,
    'qmp.socket': paths.qmp,
    'console.log': paths.console,
    ...(network === undefined ? {} : { ip: network.ip, mac: network.mac, bridge: network.bridge }),
  };
}
