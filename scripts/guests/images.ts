import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder, hashOfFiles } from './cache.ts';
import { buildCached, output } from './cached-build.ts';
import { sectorImage } from './sector-image.ts';

export const guestNames = ['sector', 'tiny', 'tiny-uefi', 'debian', 'debian-11'] as const;
export type GuestName = (typeof guestNames)[number];

/** A disk that boots. It is shared between runs: open it read-only, or create an overlay or a copy. */
export interface Guest {
  readonly name: GuestName;
  /** Absolute path of the disk as qcow2. */
  readonly path: string;
  /** The same disk as raw, for guests that keep one. */
  readonly raw: string | undefined;
  readonly firmware: 'bios' | 'uefi';
  /** Enough to boot and run small programs. */
  readonly memoryMiB: number;
  /** Kernel and initramfs of the same guest, for booting without a disk. */
  readonly kernel: string | undefined;
  readonly initrd: string | undefined;
}

interface Recipe {
  readonly script: string;
  /** What the image is made from, beside the script. */
  readonly parts: readonly string[];
  readonly firmware: Guest['firmware'];
  readonly memoryMiB: number;
}

type Built = Exclude<GuestName, 'sector'>;

const here = import.meta.dirname;

const recipes: Readonly<Record<Built, Recipe>> = {
  tiny: {
    script: 'tiny.sh',
    parts: ['tiny', 'tiny.cmdline', 'udp-echo.b64'],
    firmware: 'bios',
    memoryMiB: 128,
  },
  'tiny-uefi': {
    script: 'tiny-uefi.sh',
    parts: ['tiny.sh', 'tiny', 'tiny.cmdline', 'udp-echo.b64'],
    firmware: 'uefi',
    memoryMiB: 256,
  },
  debian: {
    script: 'debian.sh',
    parts: ['debian-cloud.cfg', 'debian-masked.txt', 'debian.cmdline'],
    firmware: 'bios',
    memoryMiB: 512,
  },
  'debian-11': {
    script: 'debian.sh',
    parts: ['debian-cloud.cfg', 'debian-masked.txt', 'debian.cmdline'],
    firmware: 'bios',
    memoryMiB: 512,
  },
};

const tinyPackages = ['busybox-static', 'cpio', 'kmod', 'mtools', 'qemu-utils', 'syslinux', 'zstd'];

const debianPackages = [
  ...['e2fsprogs', 'fdisk', 'mmdebstrap', 'mtools', 'qemu-utils'],
  ...['syslinux', 'syslinux-common'],
];

/** Debian packages that must be installed to build each guest, beside what every Debian has. */
export const guestPackages: Readonly<Record<GuestName, readonly string[]>> = {
  sector: [],
  tiny: tinyPackages,
  'tiny-uefi': [...tinyPackages, 'fdisk'],
  debian: debianPackages,
  'debian-11': debianPackages,
};

// One file of each package, to check whether it is installed.
const evidence: Readonly<Record<string, string>> = {
  'busybox-static': 'busybox',
  cpio: 'cpio',
  e2fsprogs: 'mke2fs',
  fdisk: 'sfdisk',
  kmod: 'depmod',
  mmdebstrap: 'mmdebstrap',
  mtools: 'mcopy',
  'qemu-utils': 'qemu-img',
  syslinux: 'syslinux',
  'syslinux-common': '/usr/lib/syslinux/mbr/mbr.bin',
  zstd: 'zstd',
};

/** Packages of guestPackages that this host lacks. */
export function missingPackages(name: GuestName): readonly string[] {
  const folders = [
    ...(process.env.PATH ?? '').split(':'),
    '/usr/sbin',
    '/sbin',
    '/usr/bin',
    '/bin',
  ];
  return guestPackages[name].filter((pack) => {
    const file = evidence[pack] ?? pack;
    return !folders.some((folder) => existsSync(file.startsWith('/') ? file : join(folder, file)));
  });
}

/**
 * A bootable guest by name, from the cache or built now (seconds; about two minutes for `debian`). Parallel callers
 * build once. Throws an Error with the missing packages or the recipe's output.
 */
export async function guestImage(
  name: GuestName,
  log: (line: string) => void = () => {},
): Promise<Guest> {
  if (name === 'sector') {
    const path = sectorImage(0, 'qcow2');
    const none = { kernel: undefined, initrd: undefined };
    return { name, path, raw: sectorImage(0), firmware: 'bios', memoryMiB: 32, ...none };
  }
  const recipe = recipes[name];
  const hash = hashOfFiles([recipe.script, ...recipe.parts].map((part) => join(here, part)));
  const kernel = await kernelVersion();
  const folder =
    kernel === undefined
      ? newest(`${name}-${hash}-`)
      : join(cacheFolder(), `${name}-${hash}-${kernel}`);
  if (folder === undefined) {
    throw new Error(
      `guest ${name}: apt knows no linux-image-cloud-amd64 here (Debian on amd64, after apt-get update)`,
    );
  }
  if (!existsSync(folder)) await build(name, folder, kernel ?? '', log);
  const file = (file: string): string | undefined =>
    existsSync(join(folder, file)) ? join(folder, file) : undefined;
  return {
    name,
    path: join(folder, 'disk.qcow2'),
    raw: file('disk.raw'),
    firmware: recipe.firmware,
    memoryMiB: recipe.memoryMiB,
    kernel: file('vmlinuz'),
    initrd: file('initrd'),
  };
}

async function build(
  name: Built,
  folder: string,
  kernel: string,
  log: (line: string) => void,
): Promise<void> {
  const missing = missingPackages(name);
  if (missing.length > 0) {
    throw new Error(`guest ${name}: install these Debian packages first: ${missing.join(' ')}`);
  }
  const args: Readonly<Record<Built, () => Promise<string[]>>> = {
    tiny: async () => [kernel],
    'tiny-uefi': async () => [join((await guestImage('tiny', log)).path, '..')],
    debian: async () => [],
    'debian-11': async () => ['bullseye'],
  };
  const recipe = join(here, recipes[name].script);
  await buildCached(`guest ${name}`, { folder, recipe, args: await args[name]() }, log);
}

/** The newest kernel for virtual machines that apt knows, without a network access. */
async function kernelVersion(): Promise<string | undefined> {
  try {
    const { lines } = await output('apt-cache', ['depends', 'linux-image-cloud-amd64']);
    return lines.map((line) => /Depends: linux-image-(\S+)/.exec(line)?.[1]).find(Boolean);
  } catch {
    return undefined; // no apt here: only what is already built can be used
  }
}

function newest(prefix: string): string | undefined {
  return readdirSync(cacheFolder())
    .filter((entry) => entry.startsWith(prefix))
    .map((entry) => join(cacheFolder(), entry))
    .toSorted((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
}
