import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dialectOf, virtiofsdArguments } from '../../src/vm/shares.ts';

// What the programs say of themselves, cut down to what tells them apart.
const helps = {
  'QEMU 7.2': [
    'usage: virtiofsd [options]\n    -o source=PATH\n    --fd=FDNUM\n',
    ['--fd=3', '-o', 'source=/share', '-o', 'sandbox=namespace', '-o', 'cache=auto', '-f'],
  ],
  'virtiofsd 1.10': [
    'Usage: virtiofsd\n      --shared-dir <SHARED_DIR>\n      --sandbox <SANDBOX>\n',
    ['--fd=3', '--shared-dir=/share', '--sandbox=namespace', '--cache=auto'],
  ],
  'virtiofsd 1.13': [
    'Usage: virtiofsd\n      --shared-dir <SHARED_DIR>\n      --readonly\n',
    ['--fd=3', '--shared-dir=/share', '--sandbox=namespace', '--cache=auto', '--readonly'],
  ],
} as const;

for (const [name, [help, expected]] of Object.entries(helps)) {
  test(`V-68: ${name} is started with options that it knows`, () => {
    assert.deepEqual(virtiofsdArguments('/share', dialectOf(help)), expected);
  });
}
