import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isOldKernel } from '../../src/vm/host-health.ts';

test('V-17: a kernel that lacks what images are opened with is distinguished from one that has it', () => {
  for (const release of ['4.19.0-27-amd64', '5.4.0-200-generic', '3.10.0-1160.el7.x86_64']) {
    assert.ok(isOldKernel(release), release);
  }
  for (const release of ['5.6.0', '5.10.0-33-amd64', '5.14.0-427.el9', '6.1.0', '10.0.1-rc2+']) {
    assert.ok(!isOldKernel(release), release);
  }
});
