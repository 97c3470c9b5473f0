import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seedProblems } from '#cloudinit';
import { readPassword } from '../../src/cloudinit/password.ts';
import { smallest } from './request.ts';

const filled = (length: number): string => 'aB0./'.repeat(20).slice(0, length);
const hashes: Readonly<Record<string, boolean>> = {
  [`$6$salt$${filled(86)}`]: true,
  [`$6$rounds=656000$salt$${filled(86)}`]: true,
  [`$5$salt$${filled(43)}`]: true,
  [`$1$salt$${filled(22)}`]: true,
  [`$2y$10$${filled(53)}`]: true,
  [`$2b$12$${filled(53)}`]: false,
  [`$y$j9T$${filled(22)}$${filled(43)}`]: false,
};

for (const [hash, known] of Object.entries(hashes)) {
  test(`V-64: ${hash.slice(0, 10)}… is a hash`, () => {
    assert.deepEqual(readPassword(hash), { kind: 'hash', known });
    const cut = readPassword(hash.slice(0, -1));
    assert.ok(cut.kind === 'wrong');
    assert.match(cut.problem, /^begins like a hash \(\$\w+\$\) but is not a whole one: copy all/);
  });
}

test('V-64: what is no hash is clear text', () => {
  for (const text of ['', 'hush', '$', '$ecret', '$$', '$PATH$', 'a$6$b', '{curly}', '$6', 'x:y']) {
    assert.deepEqual(readPassword(text), { kind: 'clear' }, text);
  }
});

test('V-64: a hash that no login takes is a problem of its key, which does not repeat it', () => {
  const foreign = [
    `$apr1$salt$${filled(22)}`,
    '$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA',
    '{SSHA}DkMTwBl+a/3DQTxCYEApdUtNXGgdUac3',
  ];
  for (const password of foreign) {
    const [problem] = seedProblems({ ...smallest, password });
    assert.equal(problem?.field, 'default_user_password');
    assert.match(
      problem?.text ?? '',
      /^is a hash of a kind that no login .*: mkpasswd -m sha-512$/,
    );
    assert.ok(!problem?.text.includes(password.slice(6)));
  }
});
