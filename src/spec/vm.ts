import type { DiskSpec } from './disk.ts';
import type { DisplaySpec } from './display.ts';
import type { NicSpec } from './net/nic.ts';

/**
 * What a job asks for, in the driver's own terms and already valid: the creator of a VmSpec (the plugin from a Nomad
 * task, the demo by hand) has checked every field, and the rooms below do not check again.
 */

/** Architectures the driver knows an emulator and a machine for, by QEMU's name (`qemu-system-<arch>`). */
export type Arch = 'x86_64' | 'aarch64';

/** `auto` is KVM where a probe has run guest instructions, else TCG. */
export type AcceleratorChoice = 'auto' | 'kvm' | 'tcg';

/** `auto` depends on the disk: UEFI where its first sectors have a GPT and no boot code, else BIOS. */
export type FirmwareChoice = 'auto' | 'bios' | 'uefi';

/** Which task the VM belongs to, for operators and tools that find the process or its directory. */
export interface VmIdentity {
  readonly taskId: string;
  readonly taskName: string;
  readonly allocId: string;
  readonly groupName: string;
  readonly jobId: string;
  readonly jobName: string;
  readonly namespace: string;
  readonly nodeName: string;
  /** Nomad's id of this client; '' outside of Nomad. */
  readonly nodeId: string;
  /** Of the plugin process that serves the task; another one may serve the same client under another name. */
  readonly driverName?: string;
}

/** A host directory the guest may mount. */
export interface ShareSpec {
  /** Mount tag in the guest, at most 31 bytes. */
  readonly tag: string;
  readonly source: string;
  /** Mount point in the guest. */
  readonly target: string;
  readonly readOnly: boolean;
  /** The guest mounts it by 9p: only without 9p in QEMU it is virtiofs. */
  readonly ninePfs?: boolean;
  /** A volume of the client's, which the job relies on; else a directory inside the allocation. */
  readonly volume?: boolean;
}

/** A text of the job, or a file inside the task's directories or image_paths; opened by the same rules as images. */
export type TextSource =
  | { readonly kind: 'inline'; readonly text: string }
  | { readonly kind: 'file'; readonly path: string };

/** With `check: false` it is passed on whatever it is, for guests that have another reader than cloud-init. */
export type UserData = { readonly check?: false } & TextSource;

/** The group's name servers and the domains to try for names without dots. */
export interface GuestDns {
  readonly servers: readonly string[];
  readonly searches: readonly string[];
}

export interface GuestSpec {
  readonly hostname: string;
  readonly userData: UserData | undefined;
  /** More of cloud-init's meta-data. */
  readonly metaData?: Readonly<Record<string, string>>;
  /** In the place of the one that follows from the NICs. */
  readonly networkConfig?: TextSource;
  readonly password: string | undefined;
  readonly authorizedKey: string | undefined;
  readonly commands: readonly string[];
  /** `boot`: they run at each boot; at the first one when left out. */
  readonly commandsOn?: 'boot';
  readonly timezone: string | undefined;
  /** Replaces the network's name servers when it has any; there are no search domains but these. */
  readonly dns?: GuestDns;
  /** The task's environment, for the env file in the guest. */
  readonly env: Readonly<Record<string, string>>;
}

/** When a guest counts as ready: with all that is named here. */
export interface ReadySpec {
  /** Its guest agent answers. */
  readonly agent: boolean;
  /** A server accepts connections there: a label of a port of one of the NICs, or the guest's port of the first one. */
  readonly port?: string | number;
  /** A pattern that is found on its console; `linePattern` takes it. */
  readonly log?: string;
  readonly timeoutMs: number;
  /** Whether the task fails when the time is up. */
  readonly fail: boolean;
}

/** A kernel that the guest is started from, in place of its disk. Files are named and allowed like images. */
export interface KernelSpec {
  readonly kernel: string;
  readonly initrd?: string;
  readonly commandLine: string;
}

export type SmbiosTexts = Readonly<
  Partial<Record<'manufacturer' | 'product' | 'version' | 'serial' | 'sku' | 'family', string>>
>;

/** What happens when the guest no longer feeds its watchdog. */
export const watchdogActions = ['reset', 'poweroff', 'pause'] as const;
export type WatchdogAction = (typeof watchdogActions)[number];

export interface VmSpec {
  /** `<task>-<8hex>`, only [a-z0-9-], at most 56 bytes. */
  readonly name: string;
  readonly identity: VmIdentity;
  readonly arch: Arch;
  /** QEMU machine type as written in the job; undefined is the architecture's default. */
  readonly machine: string | undefined;
  readonly accelerator: AcceleratorChoice;
  /** `auto` when left out. */
  readonly firmware?: FirmwareChoice;
  readonly vcpus: number;
  /** Host cores reserved for the task; empty when none are. */
  readonly pinnedCores: readonly number[];
  /** Relative CPU weight: Nomad's cpu_shares (MHz); 0 when unknown. */
  readonly cpuShares: number;
  readonly memoryMiB: number;
  /** At least one; exactly one is primary. */
  readonly disks: readonly DiskSpec[];
  readonly nics: readonly NicSpec[];
  readonly shares: readonly ShareSpec[];
  readonly guest: GuestSpec;
  readonly kernel?: KernelSpec;
  /** false: the guest gets no seed, because the job has one of its own or its guest needs none. */
  readonly seed?: boolean;
  /** What the guest's clock begins with: `utc` when left out. */
  readonly clock?: 'utc' | 'localtime';
  /** Texts of the machine in SMBIOS type 1, in place of the driver's. Printable ASCII. */
  readonly smbios?: SmbiosTexts;
  /** How commands run in the guest: as root when no user is named, and the way that the guest has when none is. */
  readonly exec?: {
    readonly user?: string;
    readonly via?: 'agent' | 'ssh';
    /** Program and arguments of what SIGHUP means. */
    readonly onHangUp?: readonly string[];
  };
  readonly display?: DisplaySpec;
  readonly ready?: ReadySpec;
  readonly watchdog?: { readonly action: WatchdogAction };
  /** A guest that restarts ends the VM, as one that powers off does. */
  readonly endsAtReset?: true;
  /** What the job asks for and does not get, for its events. */
  readonly notes?: readonly string[];
  /** The allocation directory, and the task's own directory inside it; where relative paths are looked up. */
  readonly allocDir: string;
  readonly taskDir: string;
  /** Nomad's log FIFOs (or /dev/null, or paths that do not exist when log collection is off). */
  readonly stdoutPath: string;
  readonly stderrPath: string;
  /** The task's cpuset cgroup as Nomad reports it ('' when cgroups are off). */
  readonly cgroupPath: string;
}
