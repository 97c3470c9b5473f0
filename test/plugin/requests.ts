import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext } from 'node:test';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { encode } from '@msgpack/msgpack';
import { type ProcessIdentity, pidfdSignal } from '#host';
import { BasePlugin } from '../../src/plugin/gen/base_pb.ts';
import type { TaskConfigSchema } from '../../src/plugin/gen/driver_pb.ts';
import { type LaunchOptions, type PluginClient, PluginProcess } from '../support/plugin-client.ts';

export type TaskInit = Exclude<
  MessageInitShape<typeof TaskConfigSchema>,
  { readonly $typeName: string }
>;

/** The smallest job configuration that is valid. */
export const smallest = { image: '/images/a.raw', primary_disk_size: 2000 };

/** A task as Nomad describes it, valid unless changed. */
export function task(change: TaskInit & { readonly config?: Record<string, unknown> } = {}) {
  const { config = smallest, ...rest } = change;
  return {
    id: 'a1b2c3d4-0000-4000-8000-000000000001/web/0123abcd',
    name: 'web',
    allocId: 'a1b2c3d4-0000-4000-8000-000000000001',
    allocDir: '/var/nomad/alloc/a1b2c3d4',
    stdoutPath: '/dev/null',
    stderrPath: '/dev/null',
    env: { NOMAD_TASK_NAME: 'web' },
    msgpackDriverConfig: encode(config),
    resources: {
      allocatedResources: { cpu: { cpuShares: 500n }, memory: { memoryMb: 512n } },
      linuxResources: { cpusetCpus: '0', cpuShares: 500n },
      ports: [{ label: 'http', value: 20_080, to: 80, hostIp: '192.0.2.1' }],
    },
    ...rest,
  } satisfies TaskInit;
}

let counter = 0;

/** Another id for each call, as Nomad gives one for each start. */
export function freshId(name = 'web'): string {
  counter += 1;
  return `a1b2c3d4-0000-4000-8000-000000000001/${name}/${counter.toString(16).padStart(8, '0')}`;
}

/** A plugin on the backend of ordinary processes, configured as the agent does, and ready for tasks. */
export async function processPlugin(
  o: LaunchOptions & {
    readonly dataDir: string;
    readonly config?: Readonly<Record<string, unknown>>;
  },
): Promise<{ plugin: PluginProcess; client: PluginClient }> {
  const plugin = await PluginProcess.serve({ entry: 'test/support/process-plugin.ts', ...o });
  const client = plugin.client();
  await client.call(BasePlugin.method.setConfig, {
    msgpackConfig: encode({ data_dir: o.dataDir, ...o.config }),
    pluginApiVersion: 'v0.1.0',
    nomadConfig: {
      driver: {
        clientMinPort: 14_000,
        clientMaxPort: 14_512,
        topology: { cores: [{ baseSpeed: 2000n }, { baseSpeed: 2000n }] },
      },
    },
  });
  return { plugin, client };
}

/** Puts the emulator there that the backend of ordinary processes looks for. */
export function installEmulator(dataDir: string): void {
  mkdirSync(dataDir, { recursive: true });
  writeFileSync(join(dataDir, 'emulator'), '7002022');
}

/** Ends whatever a failed test left running below this data directory. */
function endProcesses(dataDir: string): void {
  for (const file of readdirSync(dataDir).filter((it) => it.endsWith('.json'))) {
    const record: ProcessIdentity = JSON.parse(readFileSync(join(dataDir, file), 'utf8'));
    pidfdSignal(record, 9);
  }
}

/** A data directory with an emulator in it, gone after the test with all that ran in it. */
export function dataDirOf(t: TestContext): string {
  const dataDir = mkdtempSync(join(tmpdir(), 'plugin-data-'));
  // Hooks run in the order they were made.
  t.after(() => {
    endProcesses(dataDir);
    rmSync(dataDir, { recursive: true, force: true });
  });
  installEmulator(dataDir);
  return dataDir;
}

let one: Promise<{ plugin: PluginProcess; client: PluginClient; dataDir: string }> | undefined;

/** One plugin for all tests of a file that leave it as they found it. */
export function shared() {
  one ??= launchShared();
  return one;
}

async function launchShared() {
  const dataDir = mkdtempSync(join(tmpdir(), 'plugin-data-'));
  installEmulator(dataDir);
  return { ...(await processPlugin({ dataDir })), dataDir };
}

after(async () => {
  if (one === undefined) return;
  const { plugin, dataDir } = await one;
  await plugin[Symbol.asyncDispose]();
  endProcesses(dataDir);
  rmSync(dataDir, { recursive: true, force: true });
});
