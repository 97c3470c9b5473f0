import type { BackendHolder } from './backend.ts';
import { type Compute, computeOf } from './compute.ts';
import { decodePluginConfig } from './config.ts';
import { pluginSchema } from './config-schema.ts';
import { PluginError } from './error.ts';
import { type BasePlugin, PluginType } from './gen/base_pb.ts';
import { hclSpec } from './hcl-spec.ts';
import type { PluginLog } from './log.ts';
import type { Handlers } from './rpc.ts';
import { version } from './version.ts';

/** The only driver API there is. */
const apiVersion = 'v0.1.0';

export function baseService(o: {
  readonly driverName: string;
  readonly backend: BackendHolder;
  readonly log: PluginLog;
  readonly onCompute: (compute: Compute) => void;
}): Handlers<typeof BasePlugin> {
  return {
    pluginInfo: () => ({
      type: PluginType.DRIVER,
      pluginApiVersions: [apiVersion],
      pluginVersion: version,
      name: o.driverName,
    }),
    configSchema: () => ({ spec: hclSpec(pluginSchema) }),
    /** Looks at the configuration only, never at the host: an error here keeps the whole agent from starting. */
    setConfig: ({ msgpackConfig, nomadConfig, pluginApiVersion }) => {
      if (pluginApiVersion !== '' && pluginApiVersion !== apiVersion) {
        throw new PluginError('config', `no driver API ${pluginApiVersion}, only ${apiVersion}`);
      }
      const config = decodePluginConfig(msgpackConfig);
      o.backend.configure(config);
      o.log.setLevel(config.logLevel);
      const compute = computeOf(nomadConfig?.driver?.topology);
      if (compute !== undefined) o.onCompute(compute);
      // Without nomad_config the agent only validates, and another instance may be at work.
      if (nomadConfig !== undefined) o.backend.warmUp();
      return {};
    },
  };
}
