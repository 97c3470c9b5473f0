import { aborted } from '#host';
import { quoted } from '#spec';
import { PluginError } from '../error/plugin-error.ts';
import type { GRPCBroker, GRPCController, GRPCStdio } from '../gen/go_plugin_pb.ts';
import { type Health, HealthCheckResponse_ServingStatus } from '../gen/health_pb.ts';
import type { Handlers } from './rpc.ts';

/** go-plugin registers its one health entry under this name. */
const served = ['', 'plugin'];

export const health: Handlers<typeof Health> = {
  check: ({ service }) => {
    if (!served.includes(service)) {
      throw new PluginError('not-found', `there is no service ${quoted(service)}`);
    }
    return { status: HealthCheckResponse_ServingStatus.SERVING };
  },
  async *watch({ service }, { signal }) {
    yield {
      status: served.includes(service)
        ? HealthCheckResponse_ServingStatus.SERVING
        : HealthCheckResponse_ServingStatus.SERVICE_UNKNOWN,
    };
    await aborted({ signal });
  },
};

/** Open until the host ends it; nothing is ever sent, since the host reads stdout and stderr directly. */
export const stdio: Handlers<typeof GRPCStdio> = {
  // biome-ignore lint/correctness/useYield: this stream never has a message
  async *streamStdio(_request, { signal }) {
    await aborted({ signal });
  },
};

/** No driver call uses the broker: messages are read and dropped until the host ends. */
export const broker: Handlers<typeof GRPCBroker> = {
  // biome-ignore lint/correctness/useYield: this stream never has a message
  async *startStream(requests, { signal }) {
    for await (const _ of requests) if (signal.aborted) return;
  },
};

export function controller(shutdown: () => void): Handlers<typeof GRPCController> {
  return {
    shutdown: () => {
      shutdown();
      return {};
    },
  };
}
