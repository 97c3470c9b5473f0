import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { type GuestName, guestImage } from './guests/images.ts';
import type { SectorMode } from './guests/sector.ts';
import { sectorImage } from './guests/sector-image.ts';
import { assertRan, formatTotals, PhaseError, phase, run, type Totals } from './phases.ts';
import { nomadAgent } from './setup/nomad-agent.ts';

const root = resolve(import.meta.dirname, '..');
const module = join(root, 'test/nomad');
const sectorModes: readonly SectorMode[] = [0, 1, 2, 3, 4, 5, 6];

export interface NomadTests {
  /** The built plugin. */
  readonly plugin: string;
  /** The program that runs the tests in namespaces of their own; the build needs the network and runs outside. */
  readonly wrapper: readonly string[];
  /** Regular expression of the tests to run, in the form of go test. */
  readonly only: string;
  /** The agent to run them with; undefined: the usual one. */
  readonly agent?: string;
}

/** Runs the Go tests: Nomad's own client code and whole agents against the built plugin. */
export async function runNomadTests(tests: NomadTests): Promise<Totals> {
  const binary = join(root, 'dist/nomad.test');
  mkdirSync(dirname(binary), { recursive: true });
  await phase('build the Nomad tests', async () => {
    await run('go', ['vet', '-mod=readonly', '.'], { cwd: module });
    await run('go', ['test', '-mod=readonly', '-c', '-o', binary, '.'], { cwd: module });
  });
  const agent = tests.agent ?? (await phase('build the Nomad agent', nomadAgent));
  const images = sectorModes.map((mode) => dirname(sectorImage(mode)))[0] ?? '';
  const [tiny, uefi, debian] = await phase('find or build the guests', async () => [
    await guest('tiny'),
    await guest('tiny-uefi'),
    await guest('debian'),
  ]);
  return await phase('Nomad tests', async () => {
    const totals = await runGoBinary(
      [
        ...tests.wrapper,
        binary,
        '-test.v=test2json',
        '-test.timeout=40m',
        `-test.run=${tests.only}`,
      ],
      {
        NOMAD_BIN: agent,
        QMP_PLUGIN: tests.plugin,
        QMP_SECTOR_IMAGES: images,
        QMP_TINY_IMAGE: tiny,
        QMP_TINY_UEFI_IMAGE: uefi,
        QMP_DEBIAN_IMAGE: debian,
      },
      tests.only !== '.',
    );
    console.log(formatTotals(totals));
    assertRan(totals);
    return totals;
  });
}

/** Path of a guest's disk; undefined where it can't be built, and the tests that need it skip themselves. */
async function guest(name: GuestName): Promise<string | undefined> {
  try {
    return (await guestImage(name, (line) => console.log(line))).path;
  } catch (error) {
    if (process.env.CI) throw error;
    console.log(String(error));
    return undefined;
  }
}

/** Of one test's output, at the end of the log. */
const failureLines = 30;

interface GoEvent {
  readonly Action: string;
  readonly Test?: string;
  readonly Elapsed?: number;
  readonly Output?: string;
}

/** Runs a Go test binary; one line per test as it ends, and its output: always, or only when it failed or was skipped. */
async function runGoBinary(
  command: readonly string[],
  env: NodeJS.ProcessEnv,
  everything: boolean,
): Promise<Totals> {
  const child = spawn('go', ['tool', 'test2json', '-t', ...command], {
    cwd: module,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exit = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', resolve);
  });
  const output = new Map<string, string[]>();
  const count: Record<string, number> = { pass: 0, fail: 0, skip: 0 };
  const failures: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    const event = parseEvent(line);
    if (event === undefined) {
      console.log(line);
      continue;
    }
    const name = event.Test ?? '';
    const kept = output.get(name) ?? [];
    if (event.Action === 'output') output.set(name, [...kept, event.Output ?? '']);
    if (!(event.Action in count)) continue;
    if (name === '') {
      if (event.Action === 'fail') console.log(kept.slice(-200).join('').trimEnd());
      continue;
    }
    count[event.Action] = (count[event.Action] ?? 0) + 1;
    const mark = { pass: '✔', fail: '✖', skip: '﹣' }[event.Action] ?? '';
    console.log(`${mark} ${name} (${(event.Elapsed ?? 0).toFixed(2)} s)`);
    if (event.Action !== 'pass' || everything)
      console.log(kept.join('').trimEnd().replaceAll(/^/gm, '    '));
    if (event.Action === 'fail') failures.push([name, ...kept.slice(-failureLines)].join('\n'));
    output.delete(name);
  }
  const code = await exit;
  const { pass = 0, fail = 0, skip = 0 } = count;
  const totals = { tests: pass + fail + skip, pass, fail, skipped: skip, failures };
  if (code !== 0 && fail === 0) throw new PhaseError(`the Nomad tests ended with code ${code}`);
  return totals;
}

function parseEvent(line: string): GoEvent | undefined {
  try {
    const event: GoEvent | null = JSON.parse(line);
    return typeof event?.Action === 'string' ? event : undefined;
  } catch {
    return undefined;
  }
}
