import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import type { SeedRequest } from '#cloudinit';
import { formatEnvFile, shellWord } from '../../src/cloudinit/env-file.ts';
import { buildSeed } from '../../src/cloudinit/seed.ts';
import { tmpDir } from '../support/tmp.ts';
import { smallest, text } from './request.ts';

const shells = ['/bin/sh', '/bin/dash', '/bin/bash', '/bin/busybox'].filter((it) => existsSync(it));

function shell(path: string, script: string, ...args: readonly string[]): string {
  const applet = path.endsWith('busybox') ? ['sh'] : [];
  const run = spawnSync(path, [...applet, '-c', script, 'sh', ...args], {
    env: { PATH: '/usr/bin:/bin' },
    encoding: 'utf8',
  });
  assert.equal(run.status, 0, run.stderr);
  return run.stdout;
}

function vendor(request: SeedRequest): Record<string, unknown> {
  const bytes = buildSeed(request).get('vendor-data') ?? new Uint8Array();
  const json: unknown = JSON.parse(
    Buffer.from(bytes)
      .toString('utf8')
      .replace(/^#[^\n]*\n/, ''),
  );
  assert.ok(typeof json === 'object' && json !== null);
  return { ...json };
}

const strings = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);

test('shell words: any text is one argument, in every shell here', () => {
  fc.assert(
    fc.property(fc.array(text, { maxLength: 20 }), (texts) => {
      for (const path of shells) {
        const words = texts.map(shellWord).join(' ');
        const out = shell(path, `for word in ${words}; do printf '%s\\0' "$word"; done`);
        assert.deepEqual(out.split('\0').slice(0, -1), texts);
      }
    }),
    { numRuns: 15 },
  );
});

test('V-62 D8: what a shell reads from the env file is the environment, and nothing runs', (t) => {
  const file = join(tmpDir(t), 'env');
  const names = fc.stringMatching(/^X[A-Za-z0-9_]{0,8}$/);
  fc.assert(
    fc.property(fc.dictionary(names, text, { minKeys: 1, maxKeys: 8 }), (env) => {
      const { text: content, notes } = formatEnvFile(env);
      assert.deepEqual(notes, []);
      writeFileSync(file, content, { mode: 0o600 });
      for (const path of shells) {
        const out = shell(path, 'set -a; . "$1"; exec env -0', file);
        const found = out.split('\0').filter((entry) => entry.startsWith('X'));
        assert.deepEqual(
          Object.fromEntries(
            found.map((it) => [it.slice(0, it.indexOf('=')), it.slice(it.indexOf('=') + 1)]),
          ),
          { ...env },
        );
      }
    }),
    { numRuns: 15 },
  );
});

test('V-62: variables a shell would stop at are not in the file', () => {
  const env = { A: '1', UID: '0', OPTIND: 'x', PPID: '1', Z: '2', BASH_VERSINFO: 'x', LINENO: 'x' };
  const { text: content } = formatEnvFile(env);
  for (const path of shells) assert.equal(shell(path, `${content}\necho "$A$Z"`), '12\n');
});

test("V-62: the job's commands see the environment, also those after one that fails", (t) => {
  const file = join(tmpDir(t), 'env');
  const env = { GREETING: 'it\'s "here"' };
  writeFileSync(file, formatEnvFile(env).text);
  const { runcmd, write_files } = vendor({
    ...smallest,
    env,
    commands: ['false', 'printf %s "$GREETING"'],
  });
  // cloud-init writes string entries one after the other into one script of sh.
  const script = ['#!/bin/sh', ...strings(runcmd)].join('\n').replaceAll('/etc/nomad/env', file);
  for (const path of shells) assert.equal(shell(path, script), env.GREETING);
  assert.match(JSON.stringify(write_files), /"path":"\/etc\/nomad\/env"[^}]*"permissions":"0600"/);
});

test('V-67 V-71: a mount command makes the folder, mounts by tag, and never fails the boot', () => {
  fc.assert(
    fc.property(text, text, fc.boolean(), (tail, tag, readOnly) => {
      fc.pre(!/[\p{Cc}\u2028\u2029]/u.test(tail + tag));
      const target = `/${tail}`;
      const mounts = [{ tag, target, type: 'virtiofs', readOnly } as const];
      const command = strings(vendor({ ...smallest, mounts }).bootcmd).join('\n');
      const stubs = [
        `mkdir() { printf '%s\\0' mkdir "$@"; }`,
        `mountpoint() { return 1; }`,
        `mount() { printf '%s\\0' mount "$@"; return 32; }`,
      ];
      const out = shell('/bin/sh', [...stubs, command].join('\n'));
      const mode = readOnly ? 'ro' : 'rw';
      assert.deepEqual(out.split('\0').slice(0, -1), [
        ...['mkdir', '-p', target],
        ...['mount', '-t', 'virtiofs', '-o', mode, tag, target],
      ]);
    }),
    { numRuns: 40 },
  );
});
