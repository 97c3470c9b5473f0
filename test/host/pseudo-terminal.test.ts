import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { closeFd, errnoOf, PseudoTerminal } from '#host';
import { patient } from '../support/patience.ts';

const size = { rows: 24, columns: 80 };

function opened(t: TestContext) {
  const { ours, theirs } = PseudoTerminal.open(size);
  t.after(() => ours.destroy());
  return { ours, theirs };
}

/** A program that has the terminal as its input, and no other descriptor of it. */
function started(theirs: number, command: string) {
  const child = spawn('sh', ['-c', command], { stdio: [theirs, 'pipe', 'inherit'] });
  closeFd(theirs);
  const ended = once(child, 'close');
  let text = '';
  child.stdout?.setEncoding('latin1').on('data', (chunk: string) => {
    text += chunk;
  });
  return async (): Promise<string> => {
    await ended;
    return text;
  };
}

test('V-95: each byte that is typed arrives as it is', async (t) => {
  const { ours, theirs } = opened(t);
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  const read = started(theirs, `head -c ${bytes.length}`);
  ours.write(bytes);
  assert.equal(await read(), bytes.toString('latin1'));
});

test('V-95: a size is that of the program’s terminal', async (t) => {
  const { ours, theirs } = opened(t);
  const read = started(theirs, 'stty size; head -c 1; stty size');
  ours.resize({ rows: 50, columns: 160 });
  ours.write('\n');
  assert.match(await read(), /^(24 80|50 160)\n\n50 160\n$/);
});

test('a program whose terminal is closed reads the end of its input; it has no other descriptor of it', async (t) => {
  const { ours, theirs } = opened(t);
  const read = started(theirs, 'ls -l /proc/self/fd; cat; echo ended');
  ours.destroy();
  const shown = await read();
  assert.match(shown, /ended\n$/);
  assert.doesNotMatch(shown, /ptmx/);
});

test('V-95: what a program does not read waits, and nothing waits for it', async (t) => {
  const { ours, theirs } = opened(t);
  t.after(() => closeFd(theirs));
  const bytes = Buffer.alloc(1024 * 1024, 'what is typed\n');
  assert.equal(ours.write(bytes), false);
  for (let turns = 0; turns < 100; turns += 1) await immediate();
  assert.equal(ours.writableLength, bytes.length);
  const drained = once(ours, 'drain');
  assert.ok((await readAll(theirs, bytes.length)).equals(bytes));
  await drained;
});

test('what was typed and not read is dropped when the terminal is closed, after the program’s end too', async (t) => {
  const { ours, theirs } = opened(t);
  closeFd(theirs);
  ours.write(Buffer.alloc(1024 * 1024));
  const closed = once(ours, 'close');
  ours.destroy();
  await closed;
  ours.write('typed');
  ours.resize(size);
});

async function readAll(fd: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  const end = performance.now() + patient(20_000);
  for (let at = 0; at < length; ) {
    assert.ok(performance.now() < end, `${at} of ${length} bytes`);
    try {
      at += readSync(fd, bytes, at, length - at, null);
    } catch (error) {
      if (errnoOf(error) !== 'EAGAIN') throw error;
    }
    await immediate();
  }
  return bytes;
}
