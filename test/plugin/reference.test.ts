import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { referencePath, renderReference } from '../../scripts/config-reference.ts';

test('P-15 V-133: docs/configuration.md is what the schemas give; npm run docs writes it', () => {
  assert.equal(readFileSync(referencePath, 'utf8'), renderReference());
});
