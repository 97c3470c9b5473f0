import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { guestImage } from '../scripts/guests/images.ts';
import { runInside } from './inside.ts';
import { prepareNomad } from './nomad-parts.ts';
import { Report } from './report.ts';
import type { DemoParts } from './stage.ts';

// npm run demo                 a VM through the driver's own code
// npm run demo -- --nomad      the same VM as a job of a real Nomad agent

const usage = `usage: npm run demo [-- --nomad]
  without arguments: boots a VM through the driver's own code, without Nomad
  --nomad: runs it as a job of a real "nomad agent -dev" (\`nomad\` on PATH, $NOMAD_BIN, or built once with Go)`;

const isolated = resolve(import.meta.dirname, '../scripts/isolated.sh');

async function prepare(withNomad: boolean): Promise<DemoParts> {
  const startedAtMs = Date.now();
  const report = new Report(startedAtMs);
  report.step('Guest image: a Linux kernel with busybox, about 20 MB');
  const { path: image } = await guestImage('tiny', (line) => report.line(line));
  report.line(image);
  const nomad = withNomad ? await prepareNomad(report) : undefined;
  return { startedAtMs, step: report.steps, image, nomad };
}

/**
 * Runs the rest in namespaces of its own and returns its exit code. Ctrl-C reaches the process in there by the
 * terminal; when this process ends in another way, the channel between them closes, which interrupts it as well.
 */
async function isolate(parts: DemoParts): Promise<number> {
  const args = [process.execPath, import.meta.filename, '--inside', JSON.stringify(parts)];
  const child = spawn(isolated, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  process.on('SIGINT', () => {});
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => child.connected && child.disconnect());
  }
  const { promise, resolve: settle, reject } = Promise.withResolvers<number>();
  child.on('error', reject);
  child.on('exit', (code) => settle(code ?? 1));
  return promise;
}

function whyNot(): string | undefined {
  if (process.platform !== 'linux') return 'the demo needs Linux: it runs QEMU beside real links';
  if (process.getuid?.() !== 0) {
    return 'the demo must run as root, as the Nomad client does: it makes a tap, a bridge and nftables rules (in a network namespace of its own). Try: sudo npm run demo';
  }
  return undefined;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      nomad: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
      inside: { type: 'string' },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const problem = whyNot();
  if (problem !== undefined) throw new Error(problem);
  if (values.inside !== undefined) {
    // Written by prepare() a moment ago, in this same file.
    return runInside(JSON.parse(values.inside));
  }
  return isolate(await prepare(values.nomad));
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`\ndemo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
