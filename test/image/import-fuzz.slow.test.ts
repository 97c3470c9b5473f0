import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fuzzHeaders } from '../support/fuzz-headers.ts';
import { fuzzImports } from '../support/fuzz-imports.ts';

const inputs = process.env.CI ? 100_000 : 1000;

test('damaged archives: no crash, no hang, no growth of memory', async () => {
  const { imported, refused, growthMiB } = await fuzzImports({ seed: 1, inputs });
  assert.equal(imported + refused, inputs);
  assert.ok(imported > 0 && refused > 0, `${imported} imported, ${refused} refused`);
  assert.ok(growthMiB < 150, `${growthMiB} MiB more`);
});

test('damaged headers of every format: no gate throws, reads too much, or lets a disk without a size pass', async () => {
  const { passed, refused } = await fuzzHeaders({ seed: 1, inputs });
  assert.equal(passed + refused, inputs);
  assert.ok(passed > 0 && refused > 0, `${passed} passed, ${refused} refused`);
});
