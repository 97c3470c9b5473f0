import type { StoragePools } from '#spec';
import { PluginError } from '../error/plugin-error.ts';
import { decodeConfig } from '../hcl/decode-fields.ts';
import { formatProblems, type Problem, reportTo } from '../hcl/problem.ts';
import type { Fields } from '../hcl/schema.ts';
import { type BuiltinLists, builtinListFields, readBuiltinLists } from './builtin-lists.ts';
import { checkEmulator, emulatorFields, emulatorWarning } from './emulator.ts';
import { type ImageStoreConfig, imageStoreFields, readImageStore } from './image-store.ts';
import { type Limits, limitFields, readLimits } from './limits.ts';
import { type LogLevel, logFields } from './log-level.ts';
import { type MetricsPlace, metricsFields, readMetrics } from './metrics.ts';
import { type NetworksConfig, networkFields, readNetworks } from './networks.ts';
import { type Paths, pathFields, readPaths } from './paths.ts';
import { readStoragePools, storagePoolFields } from './storage-pools.ts';
import { readUidRange, type UidRange, uidFields } from './uid-range.ts';

/** `plugin "nomad-driver-qmp" { config { … } }` in the agent's configuration. */
export const pluginSchema = {
  ...pathFields,
  ...logFields,
  ...emulatorFields,
  ...limitFields,
  ...uidFields,
  ...networkFields,
  ...storagePoolFields,
  ...imageStoreFields,
  ...metricsFields,
  ...builtinListFields,
} as const satisfies Fields;

/** The operator's configuration, checked. */
export interface PluginConfig extends Paths, NetworksConfig, ImageStoreConfig {
  readonly logLevel: LogLevel;
  readonly uidRange: UidRange;
  readonly limits: Limits;
  readonly storagePools: StoragePools;
  /** Where figures are served, if anywhere. */
  readonly metrics?: MetricsPlace;
  readonly builtin: BuiltinLists;
  /** For the log: what the operator wrote that has no effect. */
  readonly warning: string | undefined;
}

/** Bytes of a SetConfig → the configuration. Throws PluginError 'invalid' that lists every problem with its key. */
export function decodePluginConfig(bytes: Uint8Array, driverName: string): PluginConfig {
  const problems: Problem[] = [];
  const raw = decodeConfig(pluginSchema, bytes, { what: 'plugin config', problems });
  const report = reportTo(problems);
  checkEmulator(raw, report);
  const paths = readPaths(raw, report);
  const networks = readNetworks(raw, report);
  const [network] = networks.managedNetworks;
  const metrics = readMetrics(raw, report);
  const config = {
    ...paths,
    logLevel: raw.log_level,
    limits: readLimits(raw),
    uidRange: readUidRange(raw, report),
    ...networks,
    storagePools: readStoragePools(raw, paths, report),
    ...readImageStore(raw, report),
    ...(metrics && { metrics }),
    builtin: {
      ...readBuiltinLists(raw, driverName, report),
      ...(network === undefined ? {} : { bridge: network.bridge }),
    },
    warning: emulatorWarning(raw),
  };
  if (problems.length === 0) return config;
  const list = formatProblems(problems);
  throw new PluginError('invalid', `${driverName}: invalid plugin configuration: ${list}`);
}
