import { pluginSchema } from './config-schema.ts';
import { CtyError, type CtyValue, decodeCty } from './cty.ts';
import { decodeFields, type Problem } from './decode-fields.ts';
import { PluginError } from './error.ts';
import type { LogLevel } from './log-level.ts';
import type { Decoded, Fields } from './schema.ts';

/** The operator's configuration, checked. */
export interface PluginConfig {
  readonly dataDir: string;
  readonly runDir: string;
  readonly imagePaths: readonly string[];
  readonly logLevel: LogLevel;
  readonly uidRange: { readonly min: number; readonly max: number };
  readonly managedNetworks: readonly ManagedNetworkConfig[];
  readonly limits: LimitsConfig;
}

export interface ManagedNetworkConfig {
  readonly bridge: string;
  /** The host's address on the bridge. */
  readonly address: string;
  readonly prefix: number;
  /** undefined: the host's own. */
  readonly nameservers?: readonly string[];
}

export interface LimitsConfig {
  readonly minMemoryMiB: number;
  readonly minDiskMiB: number;
  readonly maxDiskMiB: number;
}

/** Bytes of a SetConfig → the configuration. Throws PluginError 'config' that lists every problem with its key. */
export function decodePluginConfig(bytes: Uint8Array): PluginConfig {
  const problems: Problem[] = [];
  const raw = decodeFields(pluginSchema, decodeBytes(bytes), problems);
  checkPaths(raw, problems);
  checkEmulator(raw.emulator?.uri ?? '', problems);
  const uidRange = { ...blockDefaults(pluginSchema.uid_range.fields), ...raw.uid_range };
  if (uidRange.max < uidRange.min) {
    problems.push({ path: 'uid_range.max', text: 'must not be less than uid_range.min' });
  }
  const managedNetworks = readNetworks(raw.managed_network, problems);
  if (problems.length > 0) {
    throw new PluginError(
      'config',
      `virt: invalid plugin configuration: ${listProblems(problems)}`,
    );
  }
  const limits = { ...blockDefaults(pluginSchema.limits.fields), ...raw.limits };
  return {
    dataDir: raw.data_dir,
    runDir: raw.run_dir,
    imagePaths: raw.image_paths,
    // The schema's oneOf is the list of levels.
    logLevel: raw.log_level as LogLevel,
    uidRange,
    managedNetworks,
    limits: {
      minMemoryMiB: limits.min_memory_mb,
      minDiskMiB: limits.min_disk_mb,
      maxDiskMiB: limits.max_disk_mb,
    },
  };
}

/** All problems on one line, for that is how Nomad shows them. */
export function listProblems(problems: readonly Problem[]): string {
  const lines = problems.map(({ path, text }) => (path === '' ? text : `${path}: ${text}`));
  return lines.length === 1 ? (lines[0] ?? '') : `${lines.length} problems: ${lines.join('; ')}`;
}

/** Of a block that was not written. */
function blockDefaults<F extends Fields>(fields: F): Decoded<F> {
  return decodeFields(fields, null, []);
}

function decodeBytes(bytes: Uint8Array): CtyValue {
  try {
    return decodeCty(bytes);
  } catch (cause) {
    if (!(cause instanceof CtyError)) throw cause;
    throw new PluginError('config', 'virt: failed to decode plugin config', { cause });
  }
}

type Raw = Decoded<typeof pluginSchema>;

function checkPaths(raw: Raw, problems: Problem[]): void {
  const absolute = (path: string, value: string): void => {
    if (!value.startsWith('/')) {
      problems.push({ path, text: `must be an absolute path, not ${JSON.stringify(value)}` });
    }
  };
  absolute('data_dir', raw.data_dir);
  absolute('run_dir', raw.run_dir);
  if (Buffer.byteLength(raw.run_dir) > 60) {
    problems.push({ path: 'run_dir', text: 'must be at most 60 bytes long' });
  }
  for (const [index, path] of raw.image_paths.entries()) absolute(`image_paths[${index}]`, path);
}

const localQemu = ['', 'qemu:///system', 'qemu:///session', 'qemu:///default'];

function checkEmulator(uri: string, problems: Problem[]): void {
  if (localQemu.includes(uri)) return;
  problems.push({
    path: 'emulator.uri',
    text: `${JSON.stringify(uri)} is not the QEMU of this host: this driver starts QEMU itself and connects to no libvirt; leave it out or write "qemu:///system"`,
  });
}

const defaultNetwork: ManagedNetworkConfig = {
  bridge: 'virbr0',
  address: '192.168.122.1',
  prefix: 24,
};

function readNetworks(
  blocks: Raw['managed_network'],
  problems: Problem[],
): readonly ManagedNetworkConfig[] {
  if (blocks.length === 0) return [defaultNetwork];
  const seen = new Set<string>();
  return blocks.map((block, index) => {
    const path = `managed_network[${index}]`;
    if (!isLinkName(block.bridge)) {
      problems.push({
        path: `${path}.bridge`,
        text: `${JSON.stringify(block.bridge)} is not a name for a bridge (1 to 15 bytes, no blank, no slash)`,
      });
    } else if (seen.has(block.bridge)) {
      problems.push({ path: `${path}.bridge`, text: `${block.bridge} is there twice` });
    }
    seen.add(block.bridge);
    const { address, prefix } = readCidr(block.address, { path: `${path}.address`, problems });
    for (const [at, server] of block.nameservers.entries()) {
      if (!isIpv4(server)) {
        problems.push({
          path: `${path}.nameservers[${at}]`,
          text: `${JSON.stringify(server)} is not an IPv4 address`,
        });
      }
    }
    const network = { bridge: block.bridge, address, prefix };
    return block.nameservers.length === 0
      ? network
      : { ...network, nameservers: block.nameservers };
  });
}

function readCidr(
  text: string,
  o: { readonly path: string; readonly problems: Problem[] },
): { address: string; prefix: number } {
  const [address = '', length = ''] = text.split('/', 2);
  const prefix = /^\d{1,2}$/.test(length) ? Number(length) : 0;
  if (!isIpv4(address) || prefix < 8 || prefix > 29) {
    o.problems.push({
      path: o.path,
      text: `${JSON.stringify(text)} is not an IPv4 address with a prefix length from 8 to 29, such as "192.168.122.1/24"`,
    });
  }
  return { address, prefix };
}

function isIpv4(text: string): boolean {
  const bytes = text.split('.');
  return (
    bytes.length === 4 && bytes.every((it) => /^(0|[1-9]\d{0,2})$/.test(it) && Number(it) < 256)
  );
}

/** 15 bytes: the kernel's IFNAMSIZ is 16 with its NUL. */
function isLinkName(text: string): boolean {
  return /^[^\s/]+$/.test(text) && Buffer.byteLength(text) <= 15 && text !== '.' && text !== '..';
}
