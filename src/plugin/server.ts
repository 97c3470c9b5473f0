import { arch } from 'node:os';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { Arch } from '#spec';
import { BackendHolder, type CreateBackend } from './backend.ts';
import { baseService } from './base-service.ts';
import { type Compute, hostCompute } from './compute.ts';
import { driverService } from './driver-service.ts';
import { EventHub } from './events.ts';
import { Fingerprinter } from './fingerprint.ts';
import { BasePlugin } from './gen/base_pb.ts';
import { Driver } from './gen/driver_pb.ts';
import { GRPCBroker, GRPCController, GRPCStdio } from './gen/go_plugin_pb.ts';
import { Health } from './gen/health_pb.ts';
import type { PluginLog } from './log.ts';
import { serve } from './rpc.ts';
import { broker, controller, health, stdio } from './shell-services.ts';
import { type Listener, listen } from './socket.ts';
import { Tasks } from './tasks.ts';

export interface ServerOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly driverName: string;
  readonly log: PluginLog;
  readonly createBackend: CreateBackend;
  readonly fingerprintMs: number;
  /** Nomad asked this process to go. */
  readonly onShutdown: () => void;
}

/** Everything a plugin serves, on a socket that accepts already. Disposing drops the connections and the socket. */
export async function startServer(o: ServerOptions): Promise<Listener> {
  const server = new Server({
    // Task environments and configurations may be of any size.
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
    'grpc.enable_channelz': 0,
  });
  addServices(server, o);
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const listener = await listen(o.env, (socket) => injector.injectConnection(socket));
  return {
    path: listener.path,
    get connections() {
      return listener.connections;
    },
    [Symbol.dispose]: () => {
      listener[Symbol.dispose]();
      server.forceShutdown();
    },
  };
}

function addServices(server: Server, o: ServerOptions): void {
  const { driverName, log } = o;
  const events = new EventHub();
  let compute: Compute | undefined;
  const backend = new BackendHolder({
    create: o.createBackend,
    log,
    onEvent: (vm, event) => {
      const names = tasks.namesOf(vm);
      if (names !== undefined) events.publish(names, event);
    },
  });
  const tasks = new Tasks({ backend: () => backend.get(), log });
  const fingerprinter = new Fingerprinter({ driverName, backend, log, periodMs: o.fingerprintMs });

  serve(server, Health, { handlers: health, log });
  serve(server, GRPCStdio, { handlers: stdio, log });
  serve(server, GRPCBroker, { handlers: broker, log });
  serve(server, GRPCController, { handlers: controller(o.onShutdown), log });
  const onCompute = (told: Compute): void => {
    compute = told;
  };
  serve(server, BasePlugin, {
    handlers: baseService({ driverName, backend, log, onCompute }),
    log,
  });
  const parts = { backend, tasks, events, fingerprinter, hostArch: hostArch(), log };
  serve(server, Driver, {
    handlers: driverService({ ...parts, compute: () => compute ?? hostCompute() }),
    log,
  });
}

function hostArch(): Arch | undefined {
  const names: Readonly<Record<string, Arch>> = { x64: 'x86_64', arm64: 'aarch64' };
  return names[arch()];
}
