import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { unmount } from '#host';
import { tmpDir } from './tmp.ts';

const server = join(import.meta.dirname, 'watched-mount.py');
/** Numbers of requests in FUSE's protocol (linux/fuse.h). */
const names: Readonly<Record<string, string>> = {
  1: 'lookup',
  3: 'getattr',
  4: 'setattr',
  9: 'mkdir',
  10: 'unlink',
  11: 'rmdir',
  13: 'link',
  14: 'open',
  15: 'read',
  16: 'write',
  17: 'statfs',
  18: 'release',
  20: 'fsync',
  25: 'flush',
  27: 'opendir',
  28: 'readdir',
  34: 'access',
  35: 'create',
  43: 'fallocate',
  46: 'lseek',
};

export interface WatchedMount {
  readonly path: string;
  /** What this process's thread of the event loop has asked of it so far, and how many requests there were in all. */
  readonly asked: () => { readonly onLoop: readonly string[]; readonly inAll: number };
}

/** A writable file system with copies of these files, of whose requests it is known which thread made them. */
export async function watchedMount(
  t: TestContext,
  files: readonly string[],
): Promise<WatchedMount> {
  const path = mkdtempSync(join(tmpdir(), 'nq-watched-'));
  const log = join(tmpDir(t), 'requests');
  const output = openSync(log, 'w');
  const child = spawn('python3', [server, path, ...files], {
    stdio: ['ignore', output, 'inherit'],
  });
  closeSync(output);
  const ended = once(child, 'exit');
  t.after(async () => {
    unmount(path);
    child.kill('SIGKILL');
    await ended;
    rmdirSync(path);
  });
  while (readFileSync(log, 'latin1') === '') await sleep(5);
  return {
    path,
    asked: () => {
      const requests = readFileSync(log, 'latin1').trim().split('\n').slice(1);
      const onLoop = requests
        .map((line) => line.split(' '))
        .filter(([, tid]) => Number(tid) === process.pid)
        .map(([opcode = '']) => names[opcode] ?? opcode);
      return { onLoop, inAll: requests.length };
    },
  };
}
