import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fuzzImports } from '../support/fuzz-imports.ts';

test('damaged images and archives: no crash, no hang, no growth of memory', async () => {
  const inputs = process.env.CI ? 100_000 : 1000;
  const { imported, refused, growthMiB } = await fuzzImports({ seed: 1, inputs });
  assert.equal(imported + refused, inputs);
  assert.ok(imported > 0 && refused > 0, `${imported} imported, ${refused} refused`);
  assert.ok(growthMiB < 150, `${growthMiB} MiB more`);
});
