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
  /** Called when the first configuration was refused, once the agent has been answered. */
  readonly onRefused: () => void;
}

export function baseService({
  driverName,
  backend,
  log,
  onCompute,
  onRefused,
}: BaseServiceOptions): Handlers<typeof BasePlugin> {
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
    setConfig: ({ msgpackConfig, nomadConfig, pluginApiVersion }, { signal }) => {
      // The agent gives a plugin up whose first configuration is refused, but it does not end it. A call is over with its answer.
      const onAnswered = (): void => {
        if (!configured) onRefused();
      };
      signal.addEventListener('abort', onAnswered, { once: true });
      if (pluginApiVersion !== '' && pluginApiVersion !== apiVersion) {
        throw new PluginError(
          'invalid',
          `driver API ${pluginApiVersion} is not supported, only ${apiVersion}`,
        );
      }
      const config = decodePluginConfig(msgpackConfig, driverName);
      backend.configure(config);
      configured = true;
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
