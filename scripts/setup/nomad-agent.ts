import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/** The module of the tests, which pins the version that they are run with. */
const testModule = resolve(import.meta.dirname, '../../test/nomad');

/** Modules that pin other versions, by these. */
export function otherVersions(): ReadonlyMap<string, string> {
  const folder = join(testModule, 'versions');
  return new Map(readdirSync(folder).map((version) => [version, join(folder, version)]));
}

/** Whether there is a Go to build Nomad and its tests with. */
export function hasGo(): boolean {
  try {
    execFileSync('go', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Path of the Nomad agent that tests are run with: $NOMAD_BIN when set, else the one of the tests' own module. */
export function nomadAgent(): string {
  return process.env.NOMAD_BIN ? resolve(process.env.NOMAD_BIN) : agentOf(testModule);
}

/**
 * Path of an agent of the version that a module pins, with all modules that it is made from. It is built once
 * per user and version (6 minutes of CPU, 3 GB of memory) and kept; the file must not be removed while an agent runs,
 * because the agent starts it again for its log collectors.
 */
export function agentOf(module: string): string {
  const pins = readFileSync(join(module, 'go.sum'));
  const version = /^\tgithub\.com\/hashicorp\/nomad v([\w.-]+)$/m.exec(
    readFileSync(join(module, 'go.mod'), 'utf8'),
  )?.[1];
  const hash = createHash('sha256').update(pins).digest('hex').slice(0, 12);
  const folder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'nomad-driver-qmp');
  const binary = join(folder, `nomad-${version}-${hash}`);
  if (existsSync(binary)) return binary;
  mkdirSync(folder, { recursive: true });
  console.log(`building the Nomad ${version} agent once, into ${folder} (some minutes)`);
  const draft = `${binary}.${process.pid}`;
  // A second runner waits here and then links again from Go's own cache, which takes seconds.
  execFileSync(
    'flock',
    [
      `${folder}/build.lock`,
      'go',
      'build',
      '-mod=readonly',
      '-ldflags',
      '-s -w',
      '-o',
      draft,
      'github.com/hashicorp/nomad',
    ],
    { cwd: module, stdio: ['ignore', 'inherit', 'inherit'] },
  );
  renameSync(draft, binary);
  return binary;
}

if (import.meta.main) console.log(nomadAgent());
