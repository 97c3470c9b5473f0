import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** What a test suite could leave on a host: one sorted line for each thing, so that two states compare as sets. */
export function hostState(): ReadonlySet<string> {
  return new Set([
    ...lines('ip', ['-o', 'link']).map((line) => `link ${line.split(': ')[1]}`),
    ...lines('ip', ['netns', 'list']).map((line) => `network namespace ${line}`),
    ...lines('nft', ['list', 'ruleset']).map((line) => `nftables ${line.trim()}`),
    ...folder('/run/nomad-driver-qmp').map((name) => `run folder ${name}`),
    ...mounts().map((path) => `mount ${path}`),
    ...programs(),
  ]);
}

// Processes and what they hold may end while tests run; these things are not removed by themselves.
const belongsToHost = /^(link|network namespace|nftables) /;

/** The differences between two states, one line each. */
export function describeChange(before: ReadonlySet<string>, after: ReadonlySet<string>): string[] {
  return [
    ...[...before]
      .filter((line) => !after.has(line) && belongsToHost.test(line))
      .map((line) => `gone: ${line}`),
    ...[...after].filter((line) => !before.has(line)).map((line) => `left: ${line}`),
  ];
}

/** Programs that our tests start and that could outlive them; zombies and other programs don't count. */
function programs(): string[] {
  const ours = /^(qemu-|nomad|virtiofsd|swtpm)/;
  return folder('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    const name = attempt(() => readlinkSync(`/proc/${pid}/exe`).split('/').at(-1));
    return name !== undefined && ours.test(name) ? [`process ${pid} ${name}`] : [];
  });
}

function mounts(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .flatMap((line) => line.split(' ')[4] ?? []);
}

function lines(program: string, args: readonly string[]): string[] {
  const text = attempt(() => execFileSync(program, args, { encoding: 'utf8', stdio: 'pipe' }));
  return (text ?? '').split('\n').filter((line) => line.trim() !== '');
}

function folder(path: string): string[] {
  return attempt(() => readdirSync(path)) ?? [];
}

/** Without the program or the folder there is nothing to list. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
