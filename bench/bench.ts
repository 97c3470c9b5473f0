/**
 * Compares the driver with a bare spawn of the same QEMU, pair by pair in one run: `npm run bench:job`. Times differ from
 * machine to machine and from hour to hour; only the ratios are comparable. BENCH_ROUNDS sets the count (25).
 */
import { BarePath } from './bare.ts';
import { BareBridge } from './bare-host.ts';
import { DriverPath, type StartedVm } from './driver.ts';
import { formatTable, pairedDifference, pairedRatio, spread, type Times } from './figures.ts';
import type { JobKind } from './job.ts';

const rounds = Number(process.env.BENCH_ROUNDS ?? 25);
const warmUps = 3;
const manyVms = 20;
const stormCalls = 16_000;

interface Scene {
  readonly name: string;
  readonly job: JobKind;
  /** Whether another VM uses the network during the measurement. */
  readonly kept: boolean;
  readonly aims: Partial<Readonly<Record<keyof Times, number>>>;
  readonly ours: Times[];
  readonly bare: Times[];
}

if (process.env.QMP_ISOLATED !== '1') {
  throw new Error(
    'the bench creates links and rules; run it with npm run bench:job, which isolates them from this host',
  );
}
await using driver = await DriverPath.open();
using bridge = new BareBridge();
// What only the plugin's own start needed is released when it has been idle for some seconds.
const idleMiB = await settled(8000);
const ownMiB = driver.memoryMiB('RssAnon');
const scenes: readonly Scene[] = [
  {
    name: 'whole job, first VM of its network',
    job: 'whole',
    kept: false,
    aims: { startMs: 1.3, killMs: 2 },
    ours: [],
    bare: [],
  },
  {
    name: 'whole job, later VM of the network',
    job: 'whole',
    kept: true,
    aims: { startMs: 1.2, killMs: 2 },
    ours: [],
    bare: [],
  },
  {
    name: 'small VM: no NIC, no shares, no user data',
    job: 'small',
    kept: false,
    aims: {},
    ours: [],
    bare: [],
  },
];
const death: number[] = [];
const template = new Map<JobKind, readonly string[]>();

for (let round = -warmUps; round < rounds; round += 1) {
  for (const scene of scenes) await measurePair(scene, round);
  const answeredMs = await driver.deathAnswered();
  if (round >= 0) death.push(answeredMs);
}

const figures = [
  ['startMs', 'start'],
  ['firstByteMs', 'first console byte'],
  ['killMs', 'stop by SIGKILL'],
] as const;
console.log(`${rounds} pairs, driver over gRPC and bare QEMU in turn; median (min–max)`);
for (const { name, ours, bare, aims } of scenes) {
  const rows = figures.map(([key, label]) => {
    const ourMs = ours.map((times) => times[key]);
    const bareMs = bare.map((times) => times[key]);
    const aim = aims[key] === undefined ? '' : `≤ ${aims[key]} ×`;
    const [ratio, more] = [pairedRatio(ourMs, bareMs), pairedDifference(ourMs, bareMs)];
    return [label, spread(ourMs), spread(bareMs), ratio, more, aim];
  });
  const heads = [name, 'driver, ms', 'bare, ms', 'ratio', 'more, ms', 'aim'];
  console.log(`\n${formatTable([heads, ...rows])}`);
}
console.log(`\nQEMU dies → WaitTask answered: ${spread(death)} ms; aim ≤ 20 ms`);

const usedMiB = await settled();
const usedVms = driver.startedVms;
const vms: StartedVm[] = [];
vms.push(await driver.start('small'));
const oneMiB = await settled();
while (vms.length < manyVms) vms.push(await driver.start('small'));
const manyMiB = await settled();
for (const vm of vms) await driver.kill(vm);
await driver.storm(stormCalls);
const stormMiB = driver.memoryMiB();
// The memory of a burst is returned when the plugin has been idle for some seconds.
const calmMiB = await settled(8000);

console.log(
  `\nPlugin memory (RSS): ${idleMiB.toFixed(0)} MiB at 0 VMs (aim ≤ 90; ${ownMiB.toFixed(0)} of them its own, the rest is of its file), ` +
    `${usedMiB.toFixed(0)} after ${usedVms} VMs came and went, ${oneMiB.toFixed(0)} at 1, ` +
    `${manyMiB.toFixed(0)} at ${manyVms}: ${((manyMiB - oneMiB) / (manyVms - 1)).toFixed(2)} MiB more a VM (aim ≤ 0.5)`,
);
console.log(
  `\nPlugin memory right after ${stormCalls} calls in bursts: ${stormMiB.toFixed(0)} MiB; settled: ${calmMiB.toFixed(0)} MiB (aim ≤ 130)`,
);

/** Each of the two goes first in half of the pairs; neither runs while the other is measured. */
async function measurePair(scene: Scene, round: number): Promise<void> {
  const keeper = scene.kept ? await driver.start('whole') : undefined;
  const oursFirst = round % 2 === 0 || !template.has(scene.job);
  const first = oursFirst ? await ours(scene) : await bare(scene);
  const second = oursFirst ? await bare(scene) : await ours(scene);
  if (keeper !== undefined) await driver.kill(keeper);
  if (round < 0) return;
  scene.ours.push(oursFirst ? first : second);
  scene.bare.push(oursFirst ? second : first);
}

async function ours({ job }: Scene): Promise<Times> {
  const vm = await driver.start(job);
  template.set(job, vm.argv);
  const { startMs, firstByteMs } = vm;
  return { startMs, firstByteMs, killMs: await driver.kill(vm) };
}

async function bare({ job }: Scene): Promise<Times> {
  return (await BarePath.prepare(template.get(job) ?? [], bridge)).run();
}

/** Memory once the process is idle. */
async function settled(ms = 1500): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, ms));
  return driver.memoryMiB();
}
