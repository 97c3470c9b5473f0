import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** UEFI firmware as two flash images: code that all VMs share, and the variables each one gets a copy of. */
export interface Firmware {
  readonly code: string;
  readonly vars: string;
  readonly format: 'raw' | 'qcow2';
  /** Refuses unsigned boot loaders once keys are enrolled. */
  readonly secureBoot: boolean;
  /** Works only on a machine with system management mode (q35, smm=on). */
  readonly needsSmm: boolean;
}

/**
 * Where distributions describe the firmware they install; a file in the first directory replaces one of the same name
 * in the second.
 */
const descriptorDirectories = ['/etc/qemu/firmware', '/usr/share/qemu/firmware'];

/** For packages that come without a descriptor: [code, vars] by architecture. */
const usualFiles: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  x86_64: [
    ['/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_VARS_4M.fd'],
    ['/usr/share/OVMF/OVMF_CODE.fd', '/usr/share/OVMF/OVMF_VARS.fd'],
    ['/usr/share/edk2/ovmf/OVMF_CODE.fd', '/usr/share/edk2/ovmf/OVMF_VARS.fd'],
    ['/usr/share/edk2/x64/OVMF_CODE.4m.fd', '/usr/share/edk2/x64/OVMF_VARS.4m.fd'],
    ['/usr/share/qemu/edk2-x86_64-code.fd', '/usr/share/qemu/edk2-i386-vars.fd'],
  ],
  aarch64: [
    ['/usr/share/AAVMF/AAVMF_CODE.fd', '/usr/share/AAVMF/AAVMF_VARS.fd'],
    [
      '/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw',
      '/usr/share/edk2/aarch64/vars-template-pflash.raw',
    ],
    ['/usr/share/qemu/edk2-aarch64-code.fd', '/usr/share/qemu/edk2-arm-vars.fd'],
  ],
};

/** The UEFI firmware installed for an architecture, the distribution's first choice first; its files exist. */
export function findFirmware(
  arch: string,
  directories: readonly string[] = descriptorDirectories,
): readonly Firmware[] {
  const described = readDescriptors(directories).flatMap(
    (text) => parseDescriptor(text, arch) ?? [],
  );
  const usual = (usualFiles[arch] ?? []).map(([code, vars]) => plainFirmware(code, vars));
  const known = new Map<string, Firmware>();
  for (const firmware of [...described, ...usual]) {
    const key = `${firmware.code}\n${firmware.vars}`;
    if (!known.has(key) && existsSync(firmware.code) && existsSync(firmware.vars)) {
      known.set(key, firmware);
    }
  }
  return [...known.values()];
}

/** Skips firmware with secure boot, which may refuse unsigned systems, and with SMM, which needs another machine. */
export function usableFirmware({
  firmware,
}: {
  readonly firmware: readonly Firmware[];
}): Firmware | undefined {
  return firmware.find(
    ({ format, needsSmm, secureBoot }) => format === 'raw' && !needsSmm && !secureBoot,
  );
}

function plainFirmware(code: string, vars: string): Firmware {
  return { code, vars, format: 'raw', secureBoot: false, needsSmm: false };
}

/** Descriptor texts in order of their names: these begin with a two-digit priority. */
function readDescriptors(directories: readonly string[]): readonly string[] {
  const paths = new Map<string, string>();
  for (const directory of directories.filter((path) => existsSync(path))) {
    for (const name of readdirSync(directory).filter((file) => file.endsWith('.json'))) {
      if (!paths.has(name)) paths.set(name, join(directory, name));
    }
  }
  return [...paths].toSorted(([a], [b]) => (a < b ? -1 : 1)).flatMap(([, path]) => readText(path));
}

function readText(path: string): readonly string[] {
  try {
    return [readFileSync(path, 'utf8')];
  } catch {
    return []; // a dangling link, or removed since the listing: skipped
  }
}

/**
 * Decodes a descriptor as QEMU's docs/interop/firmware.json defines it; undefined when it is not UEFI in flash for
 * `arch`.
 */
export function parseDescriptor(text: string, arch: string): Firmware | undefined {
  const root = parseJson(text);
  const mapping = field(root, 'mapping');
  const code = field(field(mapping, 'executable'), 'filename');
  const vars = field(field(mapping, 'nvram-template'), 'filename');
  const format = field(field(mapping, 'executable'), 'format');
  const targets = list(field(root, 'targets')).map((target) => field(target, 'architecture'));
  if (!list(field(root, 'interface-types')).includes('uefi')) return undefined;
  if (field(mapping, 'device') !== 'flash' || !targets.includes(arch)) return undefined;
  if (typeof code !== 'string' || typeof vars !== 'string') return undefined;
  const features = list(field(root, 'features'));
  return {
    code,
    vars,
    format: format === 'qcow2' ? 'qcow2' : 'raw',
    secureBoot: features.includes('secure-boot'),
    needsSmm: features.includes('requires-smm'),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null
    ? Object.entries(value).find(([key]) => key === name)?.[1]
    : undefined;
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
