import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { unchangedMappings } from '../../src/host/spare-memory.ts';

const program = '/opt/a plugin/nomad-driver-qmp';

function mapping(head: string, anonymousKiB = 0, swapKiB = 0): string {
  return `${head}\nSize: 100 kB\nRss: 90 kB\nAnonymous:      ${anonymousKiB} kB\nSwap:      ${swapKiB} kB\nVmFlags: rd mr`;
}

test('pages of a program are released where they are as in its file, and nothing else is', () => {
  const smaps = [
    mapping(`00400000-00746000 r--p 00000000 fe:00 10117155                           ${program}`),
    mapping(`0074a000-03201000 r-xp 0034a000 fe:00 10117155                           ${program}`),
    // Relocated when the program began: in memory, or in swap space.
    mapping(
      `06b52000-06b56000 r--p 06751000 fe:00 10117155                           ${program}`,
      8,
    ),
    mapping(
      `06c52000-06c56000 r--p 06751000 fe:00 10117155                           ${program}`,
      0,
      4,
    ),
    mapping(`06b56000-06b7d000 rw-p 06755000 fe:00 10117155                           ${program}`),
    mapping(`07b56000-07b7d000 r--s 06755000 fe:00 10117155                           ${program}`),
    mapping('7f0000000000-7f0000001000 r-xp 00000000 fe:00 10117156       /usr/lib/libc.so.6'),
    mapping('7f0000002000-7f0000003000 r--p 00000000 00:00 0 '),
  ].join('\n');
  assert.deepEqual(unchangedMappings(smaps, program), [
    { start: 0x400000n, bytes: 0x346000n },
    { start: 0x74a000n, bytes: 0x2ab7000n },
  ]);
  assert.deepEqual(unchangedMappings('', program), []);
});

test('a process whose program was released goes on, and holds less of the file', () => {
  const source = new URL('../../src/host/spare-memory.ts', import.meta.url).href;
  const code = `
    import { readFileSync } from 'node:fs';
    import { releaseProgram } from ${JSON.stringify(source)};
    const fileKiB = () => Number(/^RssFile:\\s+(\\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'))[1]);
    const before = fileKiB();
    releaseProgram();
    console.log(before - fileKiB());
  `;
  const args = ['--input-type=module', '-e', code];
  const freedKiB = Number(execFileSync(process.execPath, args, { encoding: 'utf8' }));
  assert.ok(freedKiB > 1024, `${freedKiB} KiB`);
});
