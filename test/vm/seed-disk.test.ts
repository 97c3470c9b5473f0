import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { makeSeedImage } from '#cloudinit';
import { OpenFiles } from '../../src/vm/devices/files.ts';
import { checkSeed, prepareSeed } from '../../src/vm/devices/seed.ts';
import { maxGuestBytes } from '../../src/vm/devices/seed-size.ts';
import { vmPaths } from '../../src/vm/store/paths.ts';
import { tmpDir } from '../support/tmp.ts';

const waiting = { signal: AbortSignal.timeout(60_000) };
const roots = { trusted: [], task: [], relativeTo: [] };
const guest = {
  hostname: 'h',
  userData: undefined,
  password: undefined,
  authorizedKey: undefined,
  commands: [],
  timezone: undefined,
  env: { KEY: 'value' },
} as const;

const userData = { kind: 'inline', text: '#cloud-config\n' } as const;
// A byte of a control character takes more in a seed than any other.
const largest = { A: '\u0001'.repeat(maxGuestBytes - 1000) };

for (const [name, changes] of [
  ['a small seed', { userData }],
  ['the largest seed', { env: largest }],
] as const) {
  test(`${name} has its length before its content, which then fits into it`, async (t) => {
    const dir = tmpDir(t);
    const paths = vmPaths('vm-0', `${dir}/data`, `${dir}/run`);
    mkdirSync(paths.run, { recursive: true });
    await using files = new OpenFiles();
    const notes: string[] = [];
    const seed = await checkSeed({ name: 'vm-0', guest: { ...guest, ...changes } }, roots, waiting);
    const emit = (note: string): void => void notes.push(note);
    const prepared = await prepareSeed(seed, [], { paths, files, emit }, waiting);
    const { size, blocks } = statSync(paths.seed);
    assert.equal(size % 512, 0);
    assert.equal(blocks, 0);
    assert.deepEqual(await prepared.finish?.(), []);
    assert.equal(statSync(paths.seed).size, size);
    const { iso } = makeSeedImage(seed.request);
    assert.ok(iso.length <= size, `${iso.length} bytes in ${size}`);
    assert.ok(Buffer.from(iso).equals(readFileSync(paths.seed).subarray(0, iso.length)));
  });
}
