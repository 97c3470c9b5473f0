import { decodePluginConfig, pluginSchema } from '../agent/config.ts';
import { PluginError } from '../error/plugin-error.ts';
import { type BasePlugin, PluginType } from '../gen/base_pb.ts';
import { hclSpec } from '../hcl/hcl-spec.ts';
import type { BackendHolder } from '../tasks/backend.ts';
import { type Compute, computeOf } from '../tasks/node-compute.ts';
import type { PluginLog } from './log.ts';
import type { Handlers } from './rpc.ts';
import { version } from './version.ts';

/** The only driver API there is. */
const apiVersion = 'v0.1.0';

export interface BaseServiceOptions {
  readonly driverName: string;
  readonly backend: BackendHolder;
  readonly log: PluginLog;
  readonly onCompute: (compute: Compute) => void;
  /** Called when a configuration was refused and none was accepted for a while. */
  readonly onRefused: () => void;
}

/** The agent gives a plugin up whose configuration is refused, but it does not end it. */
const refusedMs = 2000;

export function baseService({
  driverName,
  backend,
  log,
  onCompute,
  onRefused,
}: BaseServiceOptions): Handlers<typeof BasePlugin> {
  let refused: NodeJS.Timeout | undefined;
  let configured = false;
  return {
    pluginInfo: () => ({
      type: PluginType.DRIVER,
      pluginApiVersions: [apiVersion],
      pluginVersion: version,
      name: driverName,
    }),
    configSchema: () => ({ spec: hclSpec(pluginSchema) }),
    /** Checks the configuration only, never the host: an error here keeps the whole agent from starting. */
    setConfig: ({ msgpackConfig, nomadConfig, pluginApiVersion }) => {
      if (pluginApiVersion !== '' && pluginApiVersion !== apiVersion) {
        throw new PluginError(
          'invalid',
          `driver API ${pluginApiVersion} is not supported, only ${apiVersion}`,
        );
      }
      clearTimeout(refused);
      if (!configured) refused = setTimeout(onRefused, refusedMs);
      const config = decodePluginConfig(msgpackConfig, driverName);
      backend.configure(config);
      configured = true;
      clearTimeout(refused);
      log.setLevel(config.logLevel);
      const compute = computeOf(nomadConfig?.driver?.topology);
      if (compute !== undefined) onCompute(compute);
      // Without nomad_config the agent only validates, and another instance may be serving.
      if (nomadConfig === undefined) return {};
      if (config.warning !== undefined) log.warn(config.warning);
      backend.warmUp();
      return {};
    },
  };
}
