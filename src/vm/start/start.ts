import { type EmptyNamespaces, type SpareNamespaces, together } from '#host';
import type { Platform } from '#qemu';
import type { VmSpec, Waiting } from '#spec';
import { openChannels } from '../devices/channels.ts';
import type { Prepared, Site } from '../devices/device.ts';
import { prepareDisplay } from '../devices/display.ts';
import { checkFirmware, prepareFirmware, reportUnbootable } from '../devices/firmware.ts';
import { prepareIgnition } from '../devices/ignition.ts';
import { prepareKernel } from '../devices/kernel.ts';
import { prepareNics, usesVhost } from '../devices/nics.ts';
import { prepareSeed } from '../devices/seed.ts';
import { prepareShares } from '../devices/shares/shares.ts';
import { prepareSsh } from '../devices/ssh.ts';
import { prepareWatchdog } from '../devices/watchdog.ts';
import { prepareDisks } from '../disks/disks.ts';
import { withVmError } from '../error.ts';
import { Containment } from '../live/containment.ts';
import type { Machine } from '../live/machine.ts';
import { TaskLogs } from '../logs/task-logs.ts';
import { uuidOf } from '../store/paths.ts';
import { disksOf } from '../store/record.ts';
import type { Emit } from '../task-event.ts';
import type { VmHost } from '../vm-host.ts';
import { boot } from './boot.ts';
import { type CheckedVm, checkVm } from './check.ts';
import { lineOf } from './line.ts';
import { openSite } from './site.ts';

/**
 * Starts a VM: each thing that it needs on this host is written into its undo log, then created; then QEMU runs. When
 * a step fails the caller removes the VM from its undo log, like one that runs.
 */
export async function startVm(
  spec: VmSpec,
  {
    host,
    namespaces,
    emit,
  }: { readonly host: VmHost; readonly namespaces: SpareNamespaces; readonly emit: Emit },
  waiting: Waiting,
): Promise<Machine> {
  using checked = await checkVm(spec, host, waiting);
  await using site = await openSite(spec, { host, emit }, checked.seed.maxBytes, waiting);
  for (const note of spec.notes ?? []) emit(note);
  const [devices, empty] = await together([
    withVmError(() => prepareDevices(spec, checked, { host, site }, waiting)),
    emptyNamespaces(namespaces, site, waiting),
  ]);
  const containment = new Containment(longestFile(devices), host.log);
  const onGrowth = (bytes: number): void => containment.grown(bytes);
  await using opened = new AsyncDisposableStack();
  const logs = opened.use(
    TaskLogs.open({ ...spec, paths: site.paths, interactive: true, log: host.log, onGrowth }),
  );
  const logPipes = openChannels(logs, site);
  const firmwareOnConsole = await showsFirmware(spec, checked, emit);
  const platform = { ...platformOf(spec, checked, site), firmwareOnConsole };
  const parts = devices.map(({ part }) => part);
  const line = lineOf(platform, parts, logPipes);
  const { path: program } = checked.emulator;
  opened.move(); // boot owns the logs
  const limits = { containment, maxDiskBytes: host.maxImageBytes };
  return await boot(
    { spec, program, platform, line, devices, empty, logs, ...limits },
    site,
    waiting,
  );
}

/** QEMU's, in most VMs: made while its devices are where none are ready, because the kernel may take its time. */
async function emptyNamespaces(
  namespaces: SpareNamespaces,
  { files }: Site,
  waiting: Waiting,
): Promise<EmptyNamespaces | undefined> {
  const empty = await namespaces.take(waiting);
  if (empty !== undefined) for (const fd of [empty.net, empty.ipc]) files.own(fd);
  return empty;
}

/**
 * Creates the host side of every device; independent devices at the same time. The order of the result determines the
 * slots on the PCI bus, and with them the names that a guest gives its disks and NICs: append at the end.
 */
async function prepareDevices(
  spec: VmSpec,
  { disks, machine, seed, kernel, emulator }: CheckedVm,
  { host, site }: { readonly host: VmHost; readonly site: Site },
  waiting: Waiting,
): Promise<readonly Prepared[]> {
  const { guest } = spec;
  const vhost = await usesVhost(machine);
  const [ownDisks, nics, shares] = await together([
    prepareDisks(
      disks,
      { ...machine, firstBootIndex: kernel === undefined ? 0 : 1 },
      site,
      waiting,
    ),
    prepareNics(spec.nics, { networks: host.networks, guest, vhost }, site, waiting),
    prepareShares(spec.shares, emulator, site, waiting),
  ]);
  // An image that had to be imported shows its first sectors only now.
  const primary = disks.find((disk) => disk.spec.primary);
  const flash = await prepareFirmware(await checkFirmware(spec, emulator, primary?.image), site);
  const ssh = prepareSsh(spec, nics, { host, site }, waiting);
  const inSeed = [...nics, ...shares, ...ssh];
  const ownSeed = spec.seed === false ? [] : [await prepareSeed(seed, inSeed, site, waiting)];
  return [
    ...ownDisks,
    ...ownSeed,
    ...flash,
    ...nics,
    ...shares,
    ...prepareWatchdog(spec),
    ...prepareDisplay(spec.display, machine, site),
    ...ssh,
    ...(await prepareIgnition(seed.ignition, site)),
    ...(await prepareKernel(kernel, site, waiting)),
    // New devices are appended, so that the ones before them keep their slots.
  ];
}

/**
 * SeaBIOS reports on the console that nothing boots, where there is no screen for that. Not for other disks: what it still
 * has to write comes in between the lines that boot code writes to the port itself.
 */
async function showsFirmware(
  { display }: VmSpec,
  { disks, kernel }: CheckedVm,
  emit: Emit,
): Promise<boolean> {
  if (kernel !== undefined) return false;
  const primary = disks.find((disk) => disk.spec.primary);
  const hasScreen = display !== undefined && display.video !== 'none';
  return (await reportUnbootable(primary, emit)) && !hasScreen;
}

function platformOf(spec: VmSpec, { machine }: CheckedVm, { paths }: Site): Platform {
  const { name, identity, vcpus, memoryMiB, smbios, clock, endsAtReset } = spec;
  return {
    name,
    uuid: uuidOf(paths.dir),
    serial: identity.allocId,
    machine,
    vcpus,
    memoryMiB,
    ...(smbios && { smbios }),
    ...(clock && { clock }),
    ...(endsAtReset && { endsAtReset }),
  };
}

function longestFile(devices: readonly Prepared[]): number {
  const known = devices.flatMap((device) => ('record' in device ? [device.record] : []));
  const disks = disksOf({ devices: known });
  return Math.max(0, ...disks.map(({ maxFileBytes }) => maxFileBytes ?? 0));
}
