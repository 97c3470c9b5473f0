import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { guestPackages } from '../../scripts/guests/images.ts';

const root = join(import.meta.dirname, '../..');

test('every package that a guest is built with is among those npm test brings', () => {
  const list = readFileSync(join(root, 'scripts/setup/packages.mjs'), 'utf8');
  const missing = Object.values(guestPackages)
    .flat()
    .filter((name) => !list.includes(`['${name}', `));
  assert.deepEqual(missing, []);
});

test('the lock file names no place that packages were fetched from', () => {
  assert.doesNotMatch(readFileSync(join(root, 'package-lock.json'), 'utf8'), /"resolved"/);
});
