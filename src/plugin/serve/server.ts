import { Server, ServerCredentials } from '@grpc/grpc-js';
import { nativeArch } from '#host';
import { BasePlugin } from '../gen/base_pb.ts';
import { Driver } from '../gen/driver_pb.ts';
import { GRPCBroker, GRPCController, GRPCStdio } from '../gen/go_plugin_pb.ts';
import { Health } from '../gen/health_pb.ts';
import { MetricsEndpoint } from '../metrics/endpoint.ts';
import { BackendHolder, type CreateBackend } from '../tasks/backend.ts';
import { EventHub } from '../tasks/events.ts';
import { Fingerprinter } from '../tasks/fingerprint.ts';
import { type Compute, hostCompute } from '../tasks/node-compute.ts';
import { Tasks } from '../tasks/tasks.ts';
import { baseService } from './base-service.ts';
import { driverService } from './driver-service.ts';
import { broker, controller, health, stdio } from './go-plugin-services.ts';
import type { PluginLog } from './log.ts';
import { serve } from './rpc.ts';
import { type Listener, listen } from './socket.ts';

export interface ServerOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly driverName: string;
  readonly log: PluginLog;
  readonly createBackend: CreateBackend;
  readonly fingerprintMs: number;
  /** Nomad asked this process to end. */
  readonly onShutdown: () => void;
  /** The first configuration was refused, and the agent has been answered. */
  readonly onRefused: () => void;
}

/** Everything a plugin serves, on a socket that accepts already. Disposing drops the connections and the socket. */
export async function startServer(options: ServerOptions): Promise<Listener> {
  const server = new Server({
    // Task environments and configurations may be of any size.
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
    'grpc.enable_channelz': 0,
  });
  const opened = new DisposableStack();
  addServices(server, options, opened);
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const listener = await listen(options.env, (socket) => injector.injectConnection(socket));
  return {
    path: listener.path,
    get connections() {
      return listener.connections;
    },
    [Symbol.dispose]: () => {
      listener[Symbol.dispose]();
      opened.dispose();
      server.forceShutdown();
    },
  };
}

function addServices(
  server: Server,
  { driverName, log, createBackend, fingerprintMs, onShutdown, onRefused }: ServerOptions,
  opened: DisposableStack,
): void {
  const events = new EventHub();
  let compute: Compute | undefined;
  const backend = new BackendHolder({
    driverName,
    create: createBackend,
    log,
    onEvent: (vm, event) => {
      const names = tasks.namesOf(vm);
      if (names !== undefined) events.publish(names, event);
    },
    onReady: ({ metrics: place }) => {
      if (place === undefined) return;
      opened.use(MetricsEndpoint.open({ place, domains: () => tasks.domains(), log }));
    },
  });
  const tasks = new Tasks({ backend: () => backend.get(), log });
  const fingerprinter = new Fingerprinter({ driverName, backend, log, periodMs: fingerprintMs });

  serve(server, Health, { handlers: health, log });
  serve(server, GRPCStdio, { handlers: stdio, log });
  serve(server, GRPCBroker, { handlers: broker, log });
  serve(server, GRPCController, { handlers: controller(onShutdown), log });
  const base = baseService({
    driverName,
    backend,
    log,
    onCompute: (fromNomad) => {
      compute = fromNomad;
    },
    onRefused,
  });
  serve(server, BasePlugin, { handlers: base, log });
  const driver = driverService({
    driverName,
    backend,
    tasks,
    events,
    fingerprinter,
    hostArch: nativeArch(),
    compute: () => compute ?? hostCompute(),
    log,
  });
  serve(server, Driver, { handlers: driver, log });
}
