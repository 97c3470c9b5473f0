import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { argsReferencePath, renderArgsReference } from '../../scripts/args-reference.ts';
import { referencePath, renderReference } from '../../scripts/config-reference.ts';

test('P-15 V-133: docs/configuration.md is what the schemas give; npm run docs writes it', () => {
  assert.equal(readFileSync(referencePath, 'utf8'), renderReference());
});

test('V-134: the guide has every option of args, as the code reads it', () => {
  const guide = readFileSync(argsReferencePath, 'utf8');
  assert.equal(guide, renderArgsReference(guide), 'run npm run docs');
  assert.match(guide, /`-netdev user,id=net0/);
});
