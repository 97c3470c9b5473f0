/**
 * What figures of many VMs, and lines on their consoles, cost the plugin, as CPU time of its own process and of nothing that it
 * asks: `npm run bench:samples`, as root. SAMPLES_VMS whole jobs (20), reckoned for 200. Nothing at all is measured in turn. The
 * code is warm: a plugin runs for months, and in its first minute Node spends several times as much on compiling what it runs often.
 */
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DriverPath, type StartedVm } from './driver.ts';
import { formatTable, spread } from './figures.ts';

const count = Number(process.env.SAMPLES_VMS ?? 20);
const rounds = Number(process.env.BENCH_ROUNDS ?? 3);
const wanted = 200;
const measuredMs = 5000;
const warmSamples = 6000;

const dir = mkdtempSync(join(tmpdir(), 'bench-samples-'));
const socketPath = join(dir, 'metrics.sock');
await using driver = await DriverPath.open({ metrics: { listen: `unix:${socketPath}` } });
const vms: StartedVm[] = [];
while (vms.length < count) {
  const vm = await driver.start('whole');
  // Paused: what a guest writes on its console is forwarded, which costs something as well.
  await driver.signal(vm, 'SIGSTOP');
  vms.push(vm);
}

type End = () => void;
const works: Readonly<Record<string, (intervalMs: number) => End>> = {
  nothing: () => () => {},
  'TaskStats of each VM': (intervalMs) => {
    const streams = vms.map((vm) => driver.sampled(vm, intervalMs));
    return () => {
      for (const stream of streams) stream.cancel();
    };
  },
  'metrics of all VMs': (intervalMs) => {
    // One at a time, as Prometheus does it: the plugin accepts sixteen connections.
    let scraping = false;
    const timer = setInterval(() => {
      if (scraping) return;
      scraping = true;
      void scrape().finally(() => {
        scraping = false;
      });
    }, intervalMs);
    return () => clearInterval(timer);
  },
  'a line on each console': (intervalMs) => {
    const consoles = driver.consoles().map((path) => openSync(path, 'a'));
    // Each at a moment of its own, as guests write.
    let lines = 0;
    const timer = setInterval(() => {
      writeSlowly(
        consoles[lines % consoles.length] ?? 0,
        `line ${lines} of a guest, as long as such lines are\n`,
      );
      lines += 1;
    }, intervalMs / consoles.length);
    return () => {
      clearInterval(timer);
      for (const fd of consoles) closeSync(fd);
    };
  },
};

const warm = Object.values(works).map((begin) => begin(100));
await sleep((warmSamples / count) * 100);
for (const end of warm) end();

const percents = new Map(Object.keys(works).map((name): [string, number[]] => [name, []]));
const slowestMs = new Map(Object.keys(works).map((name) => [name, 0]));
for (let round = 0; round < rounds; round += 1) {
  for (const [name, begin] of Object.entries(works)) {
    const end = begin(1000);
    await sleep(1500);
    const [beforeMs, began] = [driver.cpuMs(), performance.now()];
    await sleep(measuredMs);
    const share = (driver.cpuMs() - beforeMs) / (performance.now() - began);
    percents.get(name)?.push((share / count) * wanted * 100);
    slowestMs.set(name, Math.max(slowestMs.get(name) ?? 0, await slowestCall()));
    end();
  }
}
for (const vm of vms) await driver.kill(vm);
rmSync(dir, { recursive: true });

const rows = [...percents].map(([name, values]) => [
  name,
  spread(values),
  /^(nothing|a line)/.test(name) ? '' : '≤ 5 %',
  (slowestMs.get(name) ?? 0).toFixed(1),
]);
const heads = [`each second, ${count} VMs`, `% of a core for ${wanted}`, 'aim', 'slowest call, ms'];
console.log(formatTable([heads, ...rows]));

/** Byte by byte, as QEMU writes what comes from a serial port. */
function writeSlowly(fd: number, line: string): void {
  for (const byte of line) writeSync(fd, byte);
}

async function scrape(): Promise<void> {
  const asked = request({ socketPath, path: '/metrics' }).end();
  const [response]: IncomingMessage[] = await once(asked, 'response');
  await once(response?.resume() ?? asked, 'end');
}

/** Of small calls beside it, one after the other for two intervals: what holds the plugin's event loop delays them. */
async function slowestCall(): Promise<number> {
  let slowest = 0;
  for (const until = performance.now() + 2000; performance.now() < until; await sleep(2)) {
    const began = performance.now();
    await driver.storm(1);
    slowest = Math.max(slowest, performance.now() - began);
  }
  return slowest;
}
