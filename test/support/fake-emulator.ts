import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { tmpDir } from './tmp.ts';

const answers = `#!/bin/sh
case "$1" in
--version) echo 'QEMU emulator version 7.2.22' ;;
-machine) printf 'Supported machines are:\\n%s\\n' \
  'q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)' \
  'pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)' \
  'isapc                ISA-only PC' \
  'pc-i440fx-7.2        Standard PC (i440FX + PIIX, 1996) (default)' ;;
-device) echo 'name "virtio-9p-pci", bus PCI' ;;
esac
`;

/** A program on PATH that answers as QEMU 7.2 when it is asked what it is; for tests that run no VM. */
export function fakeEmulator(t: TestContext): void {
  const dir = tmpDir(t);
  const program = join(dir, 'qemu-system-x86_64');
  writeFileSync(program, answers);
  chmodSync(program, 0o755);
  const path = process.env.PATH;
  process.env.PATH = `${dir}:${path}`;
  t.after(() => {
    process.env.PATH = path;
  });
}
