import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readSmall } from '../../src/host/files/small-file.ts';
import { tmpDir } from '../support/tmp.ts';

test('small files are read whole, also one that is not small', (t) => {
  const file = join(tmpDir(t), 'file');
  for (const bytes of [0, 1, 8191, 8192, 8193, 100_000]) {
    writeFileSync(file, 'x'.repeat(bytes));
    assert.equal(readSmall(file).length, bytes);
  }
  assert.match(readSmall('/proc/self/status'), /^Name:.*^VmRSS:\s+\d+ kB$/ms);
  assert.throws(() => readSmall('/proc/0/stat'), { code: 'ENOENT' });
});
