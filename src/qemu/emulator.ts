import { machine } from 'node:os';
import { findProgram, PerFile, runProgram, within } from '#host';
import type { Arch, Waiting } from '#spec';
import { QemuError } from './error.ts';
import { type Firmware, findFirmware } from './firmware.ts';
import { machineQuery, parseMaxVcpus } from './max-vcpus.ts';

/** One installed QEMU system emulator and what it can do. */
export interface Emulator {
  readonly arch: Arch;
  readonly path: string;
  /** E.g. '7.2.22'. */
  readonly version: string;
  /** major × 1,000,000 + minor × 1,000 + micro: 7002022. */
  readonly versionNumber: number;
  /** Machine types it knows, aliases included. */
  readonly machines: readonly string[];
  /** The newest general-purpose machine (q35, virt) under its versioned name, e.g. pc-q35-7.2. */
  readonly defaultMachine: string;
  /** Maximum number of virtual CPUs by machine type; a type that is not in it has an unknown one. */
  readonly maxVcpus: ReadonlyMap<string, number>;
  /** Has the vhost-user-fs-pci device. */
  readonly virtioFs: boolean;
  /** Has the virtio-9p-pci device. */
  readonly ninePfs: boolean;
  /** Names of all devices that it has. */
  readonly devices: ReadonlySet<string>;
  /** UEFI firmware installed for its architecture, best first. */
  readonly firmware: readonly Firmware[];
}

const architectures = ['x86_64', 'aarch64'] as const;
const runDeadlineMs = 10_000;

/** The machine family a VM gets when the job names none. */
const families = { x86_64: 'q35', aarch64: 'virt' } as const;

/** What the emulator's file determines. Firmware is other packages' files, which come and go without it. */
type Program = Omit<Emulator, 'firmware'>;

const known = new PerFile<Program>();

export interface FoundEmulators {
  readonly usable: readonly Emulator[];
  /** Those that are installed and can't be used, with the cause. */
  readonly broken: readonly { readonly arch: Emulator['arch']; readonly reason: string }[];
}

/**
 * The emulators of this host, by QEMU's own names or, where a distribution has just one, its `qemu-kvm`. Each is
 * queried once and again only when its file changes; one that can't be used is queried each time, and firmware is looked
 * for each time. With `arch` it is the emulator for that one alone. `path` and `firmware` are other places to look in.
 */
export async function findEmulators(
  waiting: Waiting,
  options: {
    readonly arch?: Arch;
    readonly path?: string;
    readonly firmware?: readonly string[];
  } = {},
): Promise<FoundEmulators> {
  const wanted = options.arch === undefined ? architectures : [options.arch];
  const found = wanted.flatMap((arch) => {
    const names = [`qemu-system-${arch}`, ...(machine() === arch ? ['qemu-kvm'] : [])];
    const path = names
      .values()
      .map((name) => findProgram(name, [], options.path))
      .find((program) => program !== undefined);
    return path === undefined ? [] : [{ arch, path }];
  });
  const usable: Emulator[] = [];
  const broken: { readonly arch: Emulator['arch']; readonly reason: string }[] = [];
  await Promise.all(
    found.map(async ({ arch, path }) => {
      try {
        const program = await known.get(
          path,
          (shared) => queryEmulator(arch, path, shared),
          waiting,
        );
        usable.push({ ...program, firmware: findFirmware(arch, options.firmware) });
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        // The signal's reason names no program.
        const reason = error === waiting.signal.reason ? `running ${path}: ${message}` : message;
        broken.push({ arch, reason });
      }
    }),
  );
  const byArch = (a: { readonly arch: string }, b: { readonly arch: string }): number =>
    a.arch < b.arch ? 1 : -1;
  return { usable: usable.toSorted(byArch), broken: broken.toSorted(byArch) };
}

async function queryEmulator(
  arch: Emulator['arch'],
  path: string,
  waiting: Waiting,
): Promise<Program> {
  // An emulator that does not describe its machines is of use all the same.
  const described = query(path, machineQuery.args, waiting, machineQuery.stdin).catch(() => '');
  const [versionText, machineText, deviceText] = await Promise.all(
    [['--version'], ['-machine', 'help'], ['-device', 'help']].map((args) =>
      query(path, args, waiting),
    ),
  );
  const version = parseVersion(versionText ?? '');
  const { names, versionedDefault } = parseMachines(machineText ?? '', families[arch]);
  if (version === undefined || versionedDefault === undefined) {
    throw new QemuError(
      'unavailable',
      `${path} reports neither its version nor a ${families[arch]} machine`,
    );
  }
  const devices = namesIn(deviceText ?? '');
  return {
    arch,
    path,
    ...version,
    machines: names,
    defaultMachine: versionedDefault,
    maxVcpus: parseMaxVcpus(await described),
    virtioFs: devices.has('vhost-user-fs-pci'),
    ninePfs: devices.has('virtio-9p-pci'),
    devices,
  };
}

/** The names in the output of `-device help`. */
function namesIn(text: string): ReadonlySet<string> {
  return new Set([...text.matchAll(/^name "([^"]+)"/gm)].map(([, name = '']) => name));
}

async function query(
  path: string,
  args: readonly string[],
  waiting: Waiting,
  stdin = '',
): Promise<string> {
  const what = `running ${path} ${args.join(' ')}`;
  using limited = within(runDeadlineMs, waiting);
  const result = await runProgram({ program: path, args, stdin }, limited).catch(
    (cause: unknown) => {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new QemuError('unavailable', `${what}: ${reason}`, { cause });
    },
  );
  if (result.code === 0) return result.stdout;
  const message = result.stderr.trim().split('\n')[0] ?? '';
  throw new QemuError('unavailable', `${what}: exit ${result.code ?? result.signal}: ${message}`);
}

/** The version in the output of `--version`, without a distribution's suffix. */
export function parseVersion(
  text: string,
): { readonly version: string; readonly versionNumber: number } | undefined {
  const match = /^QEMU emulator version (\d+)\.(\d+)\.(\d+)/m.exec(text);
  if (match === null) return undefined;
  const [major = 0, minor = 0, micro = 0] = match.slice(1).map(Number);
  return {
    version: `${major}.${minor}.${micro}`,
    versionNumber: major * 1_000_000 + minor * 1_000 + micro,
  };
}

/**
 * The names in the output of `-machine help`, and the versioned machine that the family's plain name is an alias of.
 */
export function parseMachines(
  text: string,
  family: string,
): { readonly names: readonly string[]; readonly versionedDefault: string | undefined } {
  const lines = text.split('\n').slice(1);
  const names = lines.flatMap((line) => /^(\S+)\s+\S/.exec(line)?.[1] ?? []);
  const alias = lines
    .find((line) => line.startsWith(`${family} `))
    ?.match(/\(alias of ([^)\s]+)\)/)?.[1];
  return { names, versionedDefault: alias ?? (names.includes(family) ? family : undefined) };
}
