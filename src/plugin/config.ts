import { posix } from 'node:path';
import { bridgeNameProblem, type ManagedNetwork } from '#spec';
import { pluginSchema } from './config-schema.ts';
import { CtyError, type CtyValue, decodeCty } from './cty.ts';
import { type Complain, complainTo, decodeFields, type Problem } from './decode-fields.ts';
import { PluginError } from './error.ts';
import type { LogLevel } from './log-level.ts';
import { readNetworks } from './managed-networks.ts';
import type { Decoded, Fields } from './schema.ts';

/** The operator's configuration, checked. */
export interface PluginConfig {
  readonly dataDir: string;
  readonly runDir: string;
  readonly imagePaths: readonly string[];
  readonly logLevel: LogLevel;
  readonly uidRange: { readonly min: number; readonly max: number };
  readonly managedNetworks: readonly ManagedNetwork[];
  /** Bridges that jobs may name although the driver does not manage them. */
  readonly bridges: readonly string[];
  readonly limits: LimitsConfig;
  /** Tracked connections of one VM, in each direction. */
  readonly maxConnections: number;
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
  const complain = complainTo(problems);
  const paths = readPaths(raw, complain);
  checkEmulator(raw.emulator?.uri ?? '', complain);
  const uidRange = { ...blockDefaults(pluginSchema.uid_range.fields), ...raw.uid_range };
  if (uidRange.max < uidRange.min) {
    complain('uid_range.max', 'must not be less than uid_range.min');
  }
  const managedNetworks = readNetworks(raw.managed_network, complain);
  for (const [index, bridge] of raw.bridges.entries()) {
    const problem = bridgeNameProblem(bridge);
    if (problem !== undefined) complain(`bridges[${index}]`, problem);
  }
  if (problems.length > 0) {
    throw new PluginError(
      'config',
      `virt: invalid plugin configuration: ${listProblems(problems)}`,
    );
  }
  const limits = { ...blockDefaults(pluginSchema.limits.fields), ...raw.limits };
  return {
    ...paths,
    // The schema's oneOf is the list of levels.
    logLevel: raw.log_level as LogLevel,
    uidRange,
    managedNetworks,
    bridges: raw.bridges,
    limits: {
      minMemoryMiB: limits.min_memory_mb,
      minDiskMiB: limits.min_disk_mb,
      maxDiskMiB: limits.max_disk_mb,
    },
    maxConnections: limits.max_connections,
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

type Paths = Pick<PluginConfig, 'dataDir' | 'runDir' | 'imagePaths'>;

/** In the one form in which paths are compared elsewhere. */
function readPaths(raw: Raw, complain: Complain): Paths {
  const dataDir = readOwnDir('data_dir', raw.data_dir, complain);
  const runDir = readOwnDir('run_dir', raw.run_dir, complain);
  if (Buffer.byteLength(runDir) > 60) complain('run_dir', 'must be at most 60 bytes long');
  const imagePaths = raw.image_paths.map((path, index) =>
    readPath(`image_paths[${index}]`, path, complain),
  );
  return { dataDir, runDir, imagePaths };
}

function readOwnDir(key: string, value: string, complain: Complain): string {
  const path = readPath(key, value, complain);
  if (path === '/') complain(key, `must be a directory of the driver's own, not "/"`);
  return path;
}

/** Without `.`, `..`, doubled slashes and one at the end. */
function readPath(key: string, value: string, complain: Complain): string {
  if (!value.startsWith('/')) {
    complain(key, `must be an absolute path, not ${JSON.stringify(value)}`);
    return value;
  }
  const path = posix.normalize(value);
  return path === '/' ? path : path.replace(/\/$/, '');
}

const localQemu = ['', 'qemu:///system', 'qemu:///session', 'qemu:///default'];

function checkEmulator(uri: string, complain: Complain): void {
  if (localQemu.includes(uri)) return;
  complain(
    'emulator.uri',
    `${JSON.stringify(uri)} is not the QEMU of this host: this driver starts QEMU itself and connects to no libvirt; leave it out or write "qemu:///system"`,
  );
}
