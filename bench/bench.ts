/**
 * Compares the driver with a bare spawn of the same QEMU, pair by pair in one run: `npm run bench`. Times differ from
 * machine to machine and from hour to hour; the ratios are what to look at. BENCH_ROUNDS sets the count (25).
 */
import { BarePath } from './bare.ts';
import { DriverPath, type StartedVm } from './driver.ts';
import { formatTable, median, pairedRatio, spread } from './figures.ts';

const rounds = Number(process.env.BENCH_ROUNDS ?? 25);
const warmUps = 3;
const manyVms = 20;

interface Pairs {
  readonly name: string;
  readonly ours: number[];
  readonly bare: number[];
  readonly aim: number;
}

await using driver = await DriverPath.open();
const idleMiB = await settled();
const ownMiB = driver.memoryMiB('RssAnon');
const start: Pairs = { name: 'start, no shared directories', ours: [], bare: [], aim: 1.3 };
const startShared: Pairs = {
  name: 'start, three shared directories',
  ours: [],
  bare: [],
  aim: 1.3,
};
const kill: Pairs = { name: 'stop by SIGKILL', ours: [], bare: [], aim: 2 };
const death: number[] = [];

const template = new Map<Pairs, readonly string[]>();

for (let round = -warmUps; round < rounds; round += 1) {
  for (const pairs of [start, startShared]) {
    const shares = pairs === startShared;
    const ours = async (): Promise<readonly [number, number]> => {
      const vm = await driver.start({ shares });
      template.set(pairs, vm.argv);
      return [vm.startMs, await driver.kill(vm)];
    };
    const theirs = async (): Promise<readonly [number, number]> => {
      const bare = await BarePath.prepare(template.get(pairs) ?? []);
      return [await bare.start(), await bare.kill()];
    };
    // Each goes first as often as the other; neither runs while the other is measured.
    const oursFirst = round % 2 === 0 || !template.has(pairs);
    const first = oursFirst ? await ours() : await theirs();
    const second = oursFirst ? await theirs() : await ours();
    if (round < 0) continue;
    const [[ourStart, ourKill], [bareStart, bareKill]] = oursFirst
      ? [first, second]
      : [second, first];
    pairs.ours.push(ourStart);
    pairs.bare.push(bareStart);
    if (pairs !== start) continue;
    kill.ours.push(ourKill);
    kill.bare.push(bareKill);
  }
  const answeredMs = await driver.deathAnswered();
  if (round >= 0) death.push(answeredMs);
}

const usedMiB = await settled();
const vms: StartedVm[] = [];
vms.push(await driver.start({ shares: false }));
const oneMiB = await settled();
while (vms.length < manyVms) vms.push(await driver.start({ shares: false }));
const manyMiB = await settled();
for (const vm of vms) await driver.kill(vm);

console.log(`${rounds} pairs, driver over gRPC and bare QEMU in turn; median (min–max)\n`);
console.log(
  formatTable([
    ['', 'driver, ms', 'bare, ms', 'ratio', 'aim'],
    ...[start, startShared, kill].map(({ name, ours, bare, aim }) => [
      name,
      spread(ours),
      spread(bare),
      pairedRatio(ours, bare).text,
      `≤ ${aim} ×`,
    ]),
  ]),
);
console.log(`\nQEMU dies → WaitTask answered: ${spread(death)} ms; aim ≤ 20 ms`);
console.log(
  `\nPlugin memory (RSS): ${idleMiB.toFixed(0)} MiB at 0 VMs (aim ≤ 90; ${ownMiB.toFixed(0)} of them its own, the rest is of its file), ` +
    `${usedMiB.toFixed(0)} after ${(rounds + warmUps) * 3} VMs came and went, ${oneMiB.toFixed(0)} at 1, ` +
    `${manyMiB.toFixed(0)} at ${manyVms}: ${((manyMiB - oneMiB) / (manyVms - 1)).toFixed(2)} MiB more a VM (aim ≤ 0.5)`,
);
console.log(
  `\nmedian of driver start minus bare start: ${(median(start.ours) - median(start.bare)).toFixed(1)} ms`,
);

/** Memory once the process has come to rest. */
async function settled(): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, 1500));
  return driver.memoryMiB();
}
