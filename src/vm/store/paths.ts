import { createHash } from 'node:crypto';
import { type StoragePools, stateNames } from '#spec';

export interface VmPaths {
  /** The VM's own directory below the data directory: undo log, record, disk. */
  readonly dir: string;
  readonly undo: string;
  readonly record: string;
  /** What other plugin processes have found of its network, for the one whose VM it is. */
  readonly events: string;
  readonly disk: string;
  readonly firmwareVars: string;
  /** What QEMU starts the guest from, where that is not its disk. */
  readonly kernel: string;
  readonly initrd: string;
  /**
   * A small tmpfs of its own: sockets, seed, console history, journal. It bounds the files that a guest can make grow.
   * Short, because a socket's path has at most 107 bytes.
   */
  readonly run: string;
  /** QEMU's events. */
  readonly journal: string;
  /** The mark of the plugin process that manages the VM. */
  readonly owner: string;
  /** How far the guest has come. */
  readonly progress: string;
  readonly qmp: string;
  /** Where operators ask for changes to the VM. */
  readonly control: string;
  /** Exists during a backup; has the path of the file that becomes it. */
  readonly backup: string;
  readonly agent: string;
  /** Directory of the sockets that commands in the guest have their streams at. */
  readonly exec: string;
  /** The VNC server's. */
  readonly vnc: string;
  /** Directory of the keys and sockets of the host's ssh, which runs as a user of its own. */
  readonly ssh: string;
  /** Directory of a file for each command that ssh runs in the guest. */
  readonly sshCommands: string;
  /** Directory of a file for each command of the agent that may still run in the guest, though it is over for the host. */
  readonly agentCommands: string;
  readonly console: string;
  /** The interactive console: for operators, QEMU's end, and its history. */
  readonly consoleSocket: string;
  readonly hvcSocket: string;
  readonly hvcLog: string;
  /** QEMU's own messages. */
  readonly messages: string;
  readonly seed: string;
  /** Ignition's configuration, until QEMU has read it. */
  readonly ignition: string;
  readonly shares: string;
}

/** Every path of a VM; the same in every process. */
export function vmPaths(name: string, dataDir: string, runDir: string): VmPaths {
  const run = `${runDir}/${digest(`${dataDir}\0${name}`).slice(0, 8)}`;
  return pathsIn(`${dataDir}/vms/${name}`, { name, run });
}

/** The same for a VM whose two directories are known. */
export function pathsIn(
  dir: string,
  { name, run }: { readonly name: string; readonly run: string },
): VmPaths {
  return {
    dir,
    undo: `${dir}/undo.jsonl`,
    record: `${dir}/vm.json`,
    events: `${dir}/events.jsonl`,
    disk: `${dir}/${name}.img`,
    firmwareVars: `${dir}/firmware-vars.fd`,
    kernel: `${dir}/kernel`,
    initrd: `${dir}/initrd`,
    run,
    journal: `${run}/journal.jsonl`,
    owner: `${run}/owner`,
    progress: `${run}/progress`,
    qmp: `${run}/qmp.sock`,
    control: `${run}/control.sock`,
    backup: `${run}/backup`,
    agent: `${run}/agent.sock`,
    exec: `${run}/exec`,
    vnc: `${run}/vnc.sock`,
    ssh: `${run}/ssh`,
    sshCommands: `${run}/ssh-commands`,
    agentCommands: `${run}/agent-commands`,
    console: `${run}/console.log`,
    consoleSocket: `${run}/console.sock`,
    hvcSocket: `${run}/hvc0.sock`,
    hvcLog: `${run}/hvc0.log`,
    messages: `${run}/qemu.log`,
    seed: `${run}/seed.iso`,
    ignition: `${run}/ignition.json`,
    shares: `${run}/shares`,
  };
}

/** Where the driver keeps the state of its VMs: closed to every job. */
export function stateDirectories(dataDir: string, runDir: string): readonly string[] {
  return [...stateNames.map((name) => `${dataDir}/${name}`), runDir];
}

/** Where a directory pool keeps the disks of VMs: closed to every job. What lies beside it is for jobs to use. */
export function poolDisks({ path }: { readonly path: string }): string {
  return `${path}/vms`;
}

export function poolDirectories({ pools }: StoragePools): readonly string[] {
  return pools.flatMap((pool) => (pool.kind === 'directory' ? [poolDisks(pool)] : []));
}

/** The VM's UUID, derived from its directory, so that its process can be found even when only the directory is left. */
export function uuidOf(dir: string): string {
  const hex = digest(`vm\0${dir}`);
  const variant = ((Number.parseInt(hex.slice(16, 18), 16) & 0x3f) | 0x80).toString(16);
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `8${hex.slice(13, 16)}`,
    `${variant}${hex.slice(18, 20)}`,
    hex.slice(20, 32),
  ].join('-');
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
