import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from '../../scripts/build.ts';
import { Driver } from '../../src/plugin/gen/driver_pb.ts';
import type { TaskInit } from '../plugin/requests.ts';
import { imageOf } from '../support/disks.ts';
import { hangingArguments } from '../support/hanging-arguments.ts';
import { latenessDuring } from '../support/heartbeat.ts';
import {
  failureOf,
  type LaunchOptions,
  type PluginClient,
  PluginProcess,
} from '../support/plugin-client.ts';
import { configure, sectorTask } from '../support/sector-task.ts';
import { canRunVms, VmGround } from '../support/vm.ts';

const { method } = Driver;
const mostLateMs = 100;
const mostMemoryMiB = 256;
/** The machine's other work comes and goes; what an attack does to the loop comes each time. */
const rounds = 8;

interface Target {
  readonly ground: VmGround;
  readonly plugin: PluginProcess;
  readonly client: PluginClient;
  readonly control: PluginClient;
}

/** Two real plugins of the same kind, of which one is attacked, and directories for its VMs. */
async function attack(
  t: TestContext,
  round: (target: Target) => Promise<unknown>,
  launch: LaunchOptions = {},
): Promise<void> {
  if (!canRunVms(t)) return;
  const env = { PATH: process.env.PATH };
  await using ground = VmGround.open();
  await using plugin = await PluginProcess.serve({ ...launch, env });
  await using other = await PluginProcess.serve({ ...launch, env });
  const [client, control] = [plugin.client(), other.client()];
  await configure(client, ground);
  // Its first VM makes a process load and compile what it needs: that is no attack's doing.
  await live({ ground, plugin, client, control }, sectorTask(ground));
  let best = Number.POSITIVE_INFINITY;
  for (let count = 0; count < rounds && best > mostLateMs; count += 1) {
    const target = { ground, plugin, client, control };
    const late = await latenessDuring({ attacked: client, control }, () => round(target));
    const said = Object.entries(late).map(([name, ms]) => `${name} ${ms.toFixed(0)}`);
    t.diagnostic(`${said.join(', ')}; at most ${memoryMiB(plugin)} MiB so far`);
    best = Math.min(best, late.excessMs);
  }
  assert.ok(best <= mostLateMs, `the loop was ${best.toFixed(0)} ms late`);
  assert.ok(memoryMiB(plugin) <= mostMemoryMiB, `${memoryMiB(plugin)} MiB`);
}

/** The most that a plugin ever had in memory. */
function memoryMiB({ pid }: PluginProcess): number {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? [];
  return Math.round(Number(kib) / 1024);
}

/** From StartTask to DestroyTask, with some time to live. */
async function live({ client }: Target, request: TaskInit, ms = 0): Promise<void> {
  await client.call(method.startTask, { task: request });
  const taskId = request.id ?? '';
  await sleep(ms);
  await client.call(method.destroyTask, { taskId, force: true });
}

const repeat = (piece: string, bytes: number): string => piece.repeat(bytes / piece.length);

test('user data that takes a minute to read', (t) =>
  attack(t, async (target) => {
    const userData = `#cloud-config\na: &a [${repeat('x,', 131_072)}]\nb:\n${repeat('- ? *a\n  : 1\n', 131_072)}`;
    const request = sectorTask(target.ground, { config: { user_data: userData } });
    const failure = await failureOf(target.client.call(method.startTask, { task: request }));
    assert.match(failure.details, /user_data: the check was aborted/);
  }));

const largeEnvironment = async (target: Target): Promise<void> => {
  const values = Array.from({ length: 16 }, (_, it) => [`K${it}`, '\u0001'.repeat(60_000)]);
  await live(target, sectorTask(target.ground, { env: Object.fromEntries(values) }));
  const request = sectorTask(target.ground, { env: { A: 'x'.repeat(3 * 2 ** 20) } });
  const failure = await failureOf(target.client.call(method.startTask, { task: request }));
  assert.match(failure.details, /env \(31457\d\d\): .* the maximum is 1048576/);
};

test('as large an environment as fits, and a larger one', (t) => attack(t, largeEnvironment));

test('the same inside the single executable', async (t) => {
  if (!canRunVms(t)) return;
  await attack(t, largeEnvironment, { program: await build() });
});

test('a local user whose process cannot be read', (t) =>
  attack(t, async (target) => {
    await hangingArguments(t, { uid: 65_534, mark: 'nomad-driver-qmp', hidden: true });
    await live(target, sectorTask(target.ground));
  }));

test('a guest that writes to its console without end', (t) =>
  attack(t, async (target) => {
    const image = imageOf(target.ground.spec(4));
    await live(target, sectorTask(target.ground, { config: { image } }), 2000);
  }));

test('a guest that makes QEMU send events without end', (t) =>
  attack(t, async (target) => {
    const disk = Buffer.alloc(2 ** 20);
    // mov $0x505, %dx; mov $2, %al; again: out %al, %dx; jmp again: pvpanic's port, "a crash kernel was loaded".
    Buffer.from('ba0505b002eeebfd', 'hex').copy(disk);
    disk.writeUInt16LE(0xaa55, 510);
    const image = join(target.ground.root, 'alloc/web/local/flood.img');
    mkdirSync(join(image, '..'), { recursive: true });
    writeFileSync(image, disk);
    await live(target, sectorTask(target.ground, { config: { image } }), 2000);
  }));
