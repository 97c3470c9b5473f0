import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { loaded, loaderCommand } from '../../src/vm/guest/ssh/ssh-scripts.ts';
import { newKeyPair } from '../../src/vm/ssh/key-pair.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

test('OpenSSH reads the private key, and its public half is the public key', (t) => {
  const program = findProgram('ssh-keygen');
  if (!requireOrSkip(t, program !== undefined, 'needs ssh-keygen') || program === undefined) return;
  for (const comment of ['a', 'nomad-driver-qmp', 'task-12345678']) {
    const pair = newKeyPair(comment);
    const path = join(tmpDir(t), 'key');
    writeFileSync(path, pair.private, { mode: 0o600 });
    assert.equal(
      execFileSync(program, ['-y', '-f', path], { encoding: 'utf8' }),
      `${pair.public}\n`,
    );
    assert.notEqual(newKeyPair(comment).public, pair.public);
  }
});

test('the loader becomes the program that it reads, and leaves the input behind it', () => {
  const session = '0123456789abcdef';
  const program = {
    path: '/bin/sh',
    arg: ['-c', 'printf "%s|" "$@"; printf %s "$VALUE"; cat', 'sh', `it's`, '$HOME\n\\', ''],
    env: [`VALUE='a'\n${'0'.repeat(16)}=`, 'not-a-name=x', 'PATH=/usr/bin:/bin'],
  };
  const output = execFileSync('/bin/sh', ['-c', loaderCommand(session)], {
    input: `${loaded(session, program)}the rest\n`,
    encoding: 'latin1',
  });
  const begun = `\x1e${session}@0;`;
  assert.equal(output, `${begun}it's|$HOME\n\\||'a'\n${'0'.repeat(16)}=the rest\n`);
});
