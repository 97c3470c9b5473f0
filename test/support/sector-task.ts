import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { encode } from '@msgpack/msgpack';
import { BasePlugin } from '../../src/plugin/gen/base_pb.ts';
import { freshId, type TaskInit, task } from '../plugin/requests.ts';
import { imageOf } from './disks.ts';
import { type PluginClient, PluginProcess } from './plugin-client.ts';
import type { VmGround } from './vm.ts';

/** SetConfig as by an agent: the ground's directories, limits that its guests keep, and further keys. */
export async function configure(
  client: PluginClient,
  { options: { dataDir, runDir, imagePaths, uidRange } }: VmGround,
  block: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  await client.call(BasePlugin.method.setConfig, {
    pluginApiVersion: 'v0.1.0',
    nomadConfig: {},
    msgpackConfig: encode({
      data_dir: dataDir,
      run_dir: runDir,
      image_paths: imagePaths,
      uid_range: uidRange,
      limits: { min_memory_mb: 16, min_disk_mb: 1 },
      ...block,
    }),
  });
}

/** The real plugin, configured for the ground's directories as by an agent. */
export async function launch(ground: VmGround) {
  const plugin = await PluginProcess.serve({ env: { PATH: process.env.PATH } });
  const client = plugin.client();
  await configure(client, ground);
  return { plugin, client };
}

/** A task on the one-sector guest, with the directories that a client makes and a fresh id. */
export function sectorTask(
  ground: VmGround,
  { config, ...change }: TaskInit & { readonly config?: Readonly<Record<string, unknown>> } = {},
) {
  const allocDir = join(ground.root, 'alloc');
  for (const dir of ['alloc', 'web/local', 'web/secrets']) {
    mkdirSync(join(allocDir, dir), { recursive: true });
  }
  return task({
    id: freshId(),
    allocDir,
    resources: {
      allocatedResources: { memory: { memoryMb: 32n } },
      linuxResources: { cpusetCpus: '' },
    },
    config: {
      image: imageOf(ground.spec(0)),
      primary_disk_size: 1,
      use_thin_copy: true,
      vcpus: 1,
      accelerator: 'tcg',
      ...config,
    },
    ...change,
  });
}
