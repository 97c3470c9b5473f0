import type { TestContext } from 'node:test';

/**
 * Whether a test can go on here. Where it can't, it is skipped with the reason; in CI, where everything a test may
 * ask for is installed beforehand, a missing thing is a failure instead.
 */
export function requireOrSkip(t: TestContext, condition: boolean, reason: string): boolean {
  if (condition) return true;
  if (process.env.CI) throw new Error(`CI must be able to run this test: ${reason}`);
  t.skip(reason);
  return false;
}
