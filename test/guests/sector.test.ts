import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { bootSector, type SectorMode } from '../../scripts/guests/sector.ts';
import { fwCfgCode } from '../support/fw-cfg-guest.ts';
import { sectorImage } from '../support/images.ts';
import { requireOrSkip } from '../support/require.ts';

const sources = [
  ['the sector guest', '../../scripts/guests/sector.S', bootSector(0)],
  ['the guest that reads fw_cfg', '../support/fw-cfg-guest.S', fwCfgCode()],
] as const;
const has = (program: string): boolean =>
  ['/usr/bin', '/usr/local/bin', '/bin'].some((folder) => existsSync(join(folder, program)));

for (const [name, path, kept] of sources) {
  test(`${name}: the kept bytes are what its source assembles to`, (t) => {
    // Assembled on x86 only: binutils of another architecture knows no --32.
    const can = has('as') && has('ld') && process.arch === 'x64';
    if (!requireOrSkip(t, can, 'as and ld for x86 are not installed')) return;
    const folder = mkdtempSync(join(tmpdir(), 'sector-'));
    try {
      const object = join(folder, 's.o');
      const binary = join(folder, 's.bin');
      execFileSync('as', ['--32', '-o', object, join(import.meta.dirname, path)]);
      const link = ['-m', 'elf_i386', '-Ttext', '0x7c00', '--oformat', 'binary'];
      execFileSync('ld', [...link, '-o', binary, object], { stdio: 'ignore' });
      assert.deepEqual(readFileSync(binary), kept);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

test('sector guest: raw and qcow2 hold the same disk, with the mode at byte 509', (t) => {
  for (const mode of [0, 1, 2, 3, 4, 5, 6] satisfies SectorMode[]) {
    const raw = readFileSync(sectorImage(mode));
    assert.equal(raw.length, 1024 * 1024);
    assert.equal(raw[509], mode);
    assert.equal(raw.readUInt16LE(510), 0xaa55);
    const qcow2 = readFileSync(sectorImage(mode, 'qcow2'));
    assert.deepEqual(qcow2.subarray(5 * 65536, 5 * 65536 + 512), raw.subarray(0, 512));
  }
  if (!requireOrSkip(t, has('qemu-img'), 'qemu-img is not installed')) return;
  execFileSync('qemu-img', ['check', '-f', 'qcow2', sectorImage(0, 'qcow2')]);
  execFileSync('qemu-img', ['compare', sectorImage(0, 'qcow2'), sectorImage(0)]);
});
