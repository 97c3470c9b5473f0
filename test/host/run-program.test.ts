import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { test } from 'node:test';
import { HostError, memfd, runProgram } from '#host';
import { closedAgain, openFds } from '../support/open-files.ts';
import { patient } from '../support/patience.ts';

const waiting = (ms = 10_000): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(ms) });

test('running a program gives its output, exit code or signal', async () => {
  const run = (line: string, stdin?: string) =>
    runProgram({ program: '/bin/sh', args: ['-c', line], ...(stdin && { stdin }) }, waiting());
  assert.deepEqual(await run('cat; echo oops >&2; exit 3', 'in'), {
    code: 3,
    signal: null,
    stdout: 'in',
    stderr: 'oops\n',
  });
  assert.equal((await run('kill -TERM $$')).signal, 'SIGTERM');
  // Input nobody reads, more of it than a pipe holds.
  assert.equal((await run('exit 0', 'x'.repeat(1 << 20))).code, 0);
  assert.equal((await run('echo $LC_ALL')).stdout, 'C\n');
});

test('output cut inside a character comes out whole', async () => {
  const line = "printf '\\303'; sleep 0.05; printf '\\251'";
  const result = await runProgram({ program: '/bin/sh', args: ['-c', line] }, waiting());
  assert.equal(result.stdout, 'é');
});

test('too much output ends the program', async () => {
  const run = runProgram(
    { program: '/bin/sh', args: ['-c', 'yes'], maxOutputBytes: 10_000 },
    waiting(),
  );
  await assert.rejects(run, { name: 'HostError', message: /more than 10000 bytes/ });
});

test('an aborted run ends the program and all it started', async () => {
  const reason = new Error('changed my mind');
  const abort = new AbortController();
  const run = runProgram(
    { program: '/bin/sh', args: ['-c', 'sleep 61 & sleep 61 & wait'] },
    { signal: abort.signal },
  );
  setTimeout(() => abort.abort(reason), 50);
  const begin = Date.now();
  await assert.rejects(run, (error) => error instanceof HostError && error.cause === reason);
  assert.ok(Date.now() - begin < patient(5000));
  const early = runProgram({ program: '/bin/true', args: [] }, { signal: abort.signal });
  await assert.rejects(early, { name: 'HostError' });
});

test('thirty programs at once keep their outputs apart', async () => {
  const runs = Array.from({ length: 30 }, (_, index) =>
    runProgram({ program: '/bin/echo', args: [String(index)] }, waiting()),
  );
  const texts = (await Promise.all(runs)).map(({ stdout }) => Number(stdout));
  assert.deepEqual(texts, [...texts.keys()]);
});

test('no descriptor stays open, whether a program runs, reads its input, or does not start', async () => {
  const run = (program: string, args: readonly string[] = []) =>
    runProgram({ program, args, stdin: 'x'.repeat(1_000_000) }, waiting());
  await run('/bin/true');
  const before = await openFds();
  assert.equal((await run('/bin/true')).code, 0);
  assert.equal((await run('/usr/bin/wc', ['-c'])).stdout, '1000000\n');
  await assert.rejects(run('/no/such/program'), /ENOENT/);
  await closedAgain(before);
});

test('a program has three pipes, and no other descriptor of ours', async () => {
  const kept = memfd('kept', new Uint8Array());
  // No pipe in the line: the shell itself has its end open for a moment.
  const { stdout } = await runProgram(
    { program: '/bin/sh', args: ['-c', 'ls /proc/$$/fd'] },
    waiting(),
  );
  closeSync(kept);
  assert.equal(stdout, '0\n1\n2\n');
});

test('a process does not end before the program that it runs', async () => {
  const host = import.meta.resolve('#host');
  const script = `
    import { runProgram } from '${host}';
    const args = ['-c', 'exec >&- 2>&-; sleep 0.2; exit 7'];
    const { code } = await runProgram({ program: '/bin/sh', args }, { signal: AbortSignal.timeout(20_000) });
    process.exitCode = code + 1;`;
  const args = ['--input-type=module', '-e', script];
  const cwd = import.meta.dirname;
  assert.equal((await runProgram({ program: process.execPath, args, cwd }, waiting())).code, 8);
});
