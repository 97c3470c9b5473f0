import type { ProcessIdentity } from '#host';
import type { VmPaths } from '../store/paths.ts';
import { disksOf, nicsOf, type VmRecord } from '../store/record.ts';
import type { DomainNetwork } from '../virtualizer.ts';

/**
 * The first NIC's address and ports, which services are registered with; undefined when the driver knows no address.
 */
export function networkOf(record: VmRecord): DomainNetwork | undefined {
  const [first] = nicsOf(record);
  if (first?.ip === undefined) return undefined;
  return { ip: first.ip, mac: first.mac, bridge: first.bridge, portMap: first.portMap };
}

/** What InspectTask reports of a VM: the paths and ids with which an operator can examine it by hand. */
export function attributesOf(
  record: VmRecord,
  paths: VmPaths,
  { pid }: ProcessIdentity,
): Readonly<Record<string, string>> {
  const network = networkOf(record);
  return {
    pid: String(pid),
    uuid: record.uuid,
    machine: record.machine,
    accelerator: record.accelerator,
    disk: disksOf(record)[0]?.path ?? '',
    'qmp.socket': paths.qmp,
    'console.log': paths.console,
    ...(network === undefined ? {} : { ip: network.ip, mac: network.mac, bridge: network.bridge }),
  };
}
