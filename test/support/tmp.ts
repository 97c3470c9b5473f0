import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** A fresh directory, mode 0700, that is gone with everything in it after the test. */
export function tmpDir(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'nq-test-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
