import type { ProcessIdentity } from '#host';
import type { AdoptedNic, RecordedDisk } from '../store/device-record.ts';
import type { VmPaths } from '../store/paths.ts';
import { adoptedNicsOf, disksOf, displaysOf, hostNicsOf, type VmRecord } from '../store/record.ts';
import type { DomainNetwork } from '../virtualizer.ts';

/**
 * The address of the first NIC that has one outside of the guest, which services are registered with, and the ports of
 * all NICs; undefined when the driver knows no address.
 */
export function networkOf(record: VmRecord): DomainNetwork | undefined {
  const nic = adoptedNicsOf(record).find(({ ip }) => ip !== undefined);
  if (nic?.ip === undefined) return undefined;
  const portMaps = record.devices.map((device) => ('portMap' in device ? device.portMap : {}));
  const { ip, mac } = nic;
  return { ip, mac, ...placeOf(nic), portMap: Object.assign({}, ...portMaps) };
}

function placeOf(nic: AdoptedNic): Pick<DomainNetwork, 'bridge' | 'netns'> {
  if (nic.kind === 'nic') return { bridge: nic.bridge };
  return nic.kind === 'group-nic' ? { netns: nic.netns } : {};
}

function networkAttributes(record: VmRecord): Readonly<Record<string, string>> {
  const { portMap: _, ...attributes } = networkOf(record) ?? {};
  return attributes;
}

/** Labels of the ports that lead to the guest, and to its display. */
export function publishedPorts(record: VmRecord): readonly string[] {
  const forwarded = hostNicsOf(record).flatMap(({ portMap }) => Object.keys(portMap));
  const shown = displaysOf(record).flatMap(
    ({ vnc }) => vnc?.listen.map(({ label }) => label) ?? [],
  );
  return [...forwarded, ...new Set(shown)];
}

/** Where viewers connect. */
function displayAttributes(record: VmRecord, { vnc }: VmPaths): Readonly<Record<string, string>> {
  const [served] = displaysOf(record).flatMap((display) => display.vnc ?? []);
  if (served === undefined) return {};
  const addresses = served.listen.map(({ address }) => address).join(' ');
  return { 'vnc.socket': vnc, ...(addresses === '' ? {} : { 'vnc.address': addresses }) };
}

/** Of one disk: where it is, and how it is read and written. */
function diskAttributes({
  id,
  name = id,
  path,
  format,
  cache,
  aio,
  virtualBytes,
}: RecordedDisk): readonly (readonly [string, string])[] {
  const size = virtualBytes?.toString();
  const facts = { path, format, size, cache, aio };
  return Object.entries(facts).flatMap(([key, value]) =>
    value === undefined ? [] : [[`disk.${name}.${key}`, value] as const],
  );
}

/** What InspectTask reports of a VM: the paths and ids with which an operator can examine it by hand. */
export function attributesOf(
  record: VmRecord,
  paths: VmPaths,
  { pid }: ProcessIdentity,
): Readonly<Record<string, string>> {
  return {
    pid: String(pid),
    uuid: record.uuid,
    machine: record.machine,
    accelerator: record.accelerator,
    disk: disksOf(record)[0]?.path ?? '',
    ...Object.fromEntries(disksOf(record).flatMap(diskAttributes)),
    'qmp.socket': paths.qmp,
    'console.log': paths.console,
    ...(record.interactiveConsole === true ? { 'console.socket': paths.consoleSocket } : {}),
    ...displayAttributes(record, paths),
    ...networkAttributes(record),
  };
}
