import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errnoOf, HostError } from '#host';
import { hostError } from '../../src/host/error.ts';

function thrownBy(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  assert.fail('nothing was thrown');
}

const missing = thrownBy(() => readFileSync('/none/such'));

const cases: Readonly<Record<string, readonly [unknown, string | undefined]>> = {
  "Node's error of a system call": [missing, 'ENOENT'],
  'a wrapped one': [hostError('reading', missing), 'ENOENT'],
  'one of the C library': [new HostError('binding: EPERM', { errno: 'EPERM' }), 'EPERM'],
  'one that is no refusal of the system': [new HostError('it takes more than 10 ms'), undefined],
  'an error without a code': [new TypeError('no'), undefined],
  'an error whose code is a number': [Object.assign(new Error('no'), { code: 5 }), undefined],
  'an object that looks like an error': [{ code: 'ENOENT' }, undefined],
  nothing: [undefined, undefined],
};
for (const [name, [error, errno]] of Object.entries(cases)) {
  test(`errno of ${name}`, () => assert.equal(errnoOf(error), errno));
}

test('a wrapped error names what was being done, and keeps its cause', () => {
  const error = hostError('reading the list', missing);
  assert.match(error.message, /^reading the list: ENOENT: no such file or directory/);
  assert.equal(error.cause, missing);
  assert.equal(error.code, 'system');
});
