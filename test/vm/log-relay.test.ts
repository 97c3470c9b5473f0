import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs, {
  appendFileSync,
  closeSync,
  constants,
  openSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Logger, openPath } from '#host';
import { LogRelay } from '../../src/vm/logs/log-relay.ts';
import { openLogSink } from '../../src/vm/logs/log-sink.ts';
import { patient } from '../support/patience.ts';
import { tmpDir } from '../support/tmp.ts';
import { collect, eventually } from '../support/vm.ts';

const pipeBytes = 65_536;
const shortly = (ms = 5000): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(ms) });

const unlimited = new AbortController();

/** A history, the pipe it goes into, and what came out of the pipe so far. */
class Bench {
  readonly history: string;
  readonly mark: string;
  readonly pipe: string;
  readonly lines: string[] = [];
  readonly log: Logger = collect(this.lines);
  readonly #reader: number;
  readonly #seen: Buffer[] = [];
  #ended = false;
  #bytes = 0;

  constructor(t: TestContext) {
    const dir = tmpDir(t);
    this.history = join(dir, 'history');
    this.mark = join(dir, 'mark');
    this.pipe = join(dir, 'pipe');
    execFileSync('mkfifo', [this.pipe]);
    this.#reader = openSync(this.pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    t.after(() => closeSync(this.#reader));
    writeFileSync(this.history, '');
  }

  open(): LogRelay {
    const sink = openLogSink({ path: this.pipe, allocDir: dirname(this.pipe) }, this.log);
    assert.ok(sink !== undefined);
    closeSync(sink.held);
    return LogRelay.open({ ...this, sink: sink.fd });
  }

  append(text: string): void {
    appendFileSync(this.history, text);
  }

  /** Reads what the pipe holds now, at most `most` bytes. */
  take(most = 2 ** 20): number {
    const chunk = Buffer.alloc(most);
    try {
      const length = readSync(this.#reader, chunk);
      this.#ended = length === 0;
      this.#seen.push(chunk.subarray(0, length));
      this.#bytes += length;
      return length;
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return 0;
      throw error;
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

  get seen(): string {
    return Buffer.concat(this.#seen).toString('latin1');
  }

  async until(text: string): Promise<void> {
    const enough = (): boolean => {
      this.take();
      return this.#bytes >= text.length;
    };
    await eventually(enough, `${text.length} bytes out of the pipe`, 5000);
    const { seen } = this;
    // Not left to assert: a diff of megabytes helps nobody.
    if (seen === text) return;
    const at = [...text].findIndex((it, index) => seen[index] !== it);
    assert.fail(`${seen.length} bytes instead of ${text.length}, different from byte ${at} on`);
  }

  /** No writer has the pipe open any more. */
  get ended(): boolean {
    this.take();
    return this.#ended;
  }

  get heldBytes(): number {
    return statSync(this.history).blocks * 512;
  }
}

/** Text in which every position is recognisable. */
function numbered(bytes: number): string {
  const lines = Array.from({ length: Math.ceil(bytes / 10) }, (_, line) => `${line + 1e8}\n`);
  return lines.join('').slice(0, bytes);
}

test('V-105 P-36: what is appended comes out, in order, each byte once', async (t) => {
  const bench = new Bench(t);
  await using _relay = bench.open();
  const whole = numbered(400_000);
  for (let at = 0, size = 1; at < whole.length; at += size, size = (size * 7 + 3) % 40_000) {
    bench.append(whole.slice(at, at + size));
    bench.take();
    if (size % 3 === 0) await sleep(1);
  }
  await bench.until(whole);
});

test('V-105: a single byte comes out within moments', async (t) => {
  const bench = new Bench(t);
  await using _relay = bench.open();
  await sleep(30);
  const begin = performance.now();
  bench.append('x');
  await bench.until('x');
  assert.ok(performance.now() - begin < patient(1000), `${performance.now() - begin} ms`);
});

test('P-36: without a reader the history waits, and is passed on when one comes', async (t) => {
  const bench = new Bench(t);
  await using _relay = bench.open();
  const whole = numbered(300_000);
  bench.append(whole);
  await sleep(150);
  assert.ok(
    bench.heldBytes >= whole.length - pipeBytes - 8192,
    `${bench.heldBytes} bytes are kept`,
  );
  await bench.until(whole);
});

test('what was passed on is given back to the file system', async (t) => {
  const bench = new Bench(t);
  await using _relay = bench.open();
  const whole = numbered(2 ** 20);
  bench.append(whole);
  await bench.until(whole);
  await eventually(() => bench.heldBytes <= 8192, 'an empty history', 2000);
  assert.equal(statSync(bench.history).size, whole.length, 'positions stay what they were');
});

test('P-36 V-97: the next process goes on exactly where the last one stopped', async (t) => {
  const bench = new Bench(t);
  const whole = numbered(500_000);
  bench.append(whole.slice(0, 300_000));
  // Each is stopped in the middle: the pipe is full again before the history is empty.
  for (const most of [0, 1, 5000, 65_536, 30_000, 7]) {
    const relay = bench.open();
    await sleep(40);
    if (most > 0) bench.take(most);
    await sleep(40);
    await relay[Symbol.asyncDispose]();
  }
  bench.append(whole.slice(300_000));
  await using _last = bench.open();
  await bench.until(whole);
});

test('P-36: what was appended while no process was there is passed on', async (t) => {
  const bench = new Bench(t);
  const first = bench.open();
  bench.append('one ');
  await bench.until('one ');
  await first[Symbol.asyncDispose]();
  bench.append('two ');
  await using _second = bench.open();
  await bench.until('one two ');
});

test('at the end everything is passed on, and then the pipe is let go', async (t) => {
  const bench = new Bench(t);
  const relay = bench.open();
  const whole = numbered(200_000);
  bench.append(whole);
  const finished = relay.finish(shortly());
  await bench.until(whole);
  await finished;
  assert.ok(bench.ended);
});

test('at the end what the pipe has room for is passed on, although the time for it is over', async (t) => {
  const bench = new Bench(t);
  const relay = bench.open();
  const whole = numbered(pipeBytes / 2);
  bench.append(whole);
  await relay.finish({ signal: AbortSignal.abort() });
  await bench.until(whole);
});

test('at the end a slow reader has everything, and one that takes nothing is given up', async (t) => {
  const slow = new Bench(t);
  const whole = numbered(200_000);
  slow.append(whole);
  const finished = slow.open().finish(unlimited);
  for (const end = performance.now() + 3000; performance.now() < end; ) {
    slow.take(4096);
    await sleep(100);
  }
  await slow.until(whole);
  await finished;
  const gone = new Bench(t);
  gone.append(whole);
  await gone.open().finish(unlimited);
});

test('the end does not wait for a reader longer than it is allowed to', async (t) => {
  const bench = new Bench(t);
  const relay = bench.open();
  bench.append(numbered(200_000));
  const begin = performance.now();
  await relay.finish(shortly(200));
  const ms = performance.now() - begin;
  assert.ok(ms >= 150 && ms < patient(1000), `${ms} ms`);
});

test('without a pipe the history is only kept short', async (t) => {
  const bench = new Bench(t);
  await using _relay = LogRelay.open({ ...bench, sink: undefined });
  bench.append(numbered(2 ** 20));
  await eventually(() => bench.heldBytes <= 8192, 'an empty history', 2000);
});

test('a pipe that breaks is reported once; the history stays short', async (t) => {
  const bench = new Bench(t);
  const other = join(bench.pipe, '..', 'other');
  execFileSync('mkfifo', [other]);
  const reader = openPath(other, constants.O_RDONLY | constants.O_NONBLOCK);
  const sink = openPath(other, constants.O_WRONLY | constants.O_NONBLOCK);
  closeSync(reader);
  await using _relay = LogRelay.open({ ...bench, sink });
  bench.append(numbered(100_000));
  await eventually(() => bench.heldBytes <= 8192, 'an empty history', 2000);
  assert.deepEqual(
    bench.lines.map((line) => line.replace(/ \{.*/, '')),
    ['warn log pipe broke; output is no longer forwarded'],
  );
});

test('a mark that makes no sense is not believed', async (t) => {
  const garbage: Readonly<Record<string, Buffer>> = {
    'torn while it was written': Buffer.from([1, 2, 3]),
    'beyond the end': Buffer.from('ffffff0000000000', 'hex'),
    'absurdly large': Buffer.alloc(8, 0xff),
  };
  for (const [name, mark] of Object.entries(garbage)) {
    const bench = new Bench(t);
    writeFileSync(bench.mark, mark);
    bench.append(name);
    await using _relay = bench.open();
    await bench.until(name);
  }
});

test('a pipe path that is a link, a file or nothing is not written to', (t) => {
  const bench = new Bench(t);
  const dir = tmpDir(t);
  const file = join(dir, 'file');
  writeFileSync(file, 'untouched');
  execFileSync('ln', ['-s', bench.pipe, join(dir, 'link')]);
  for (const path of [join(dir, 'link'), file, join(dir, 'missing'), '/dev/null']) {
    assert.equal(openLogSink({ path, allocDir: dir }, bench.log), undefined, path);
  }
  assert.equal(readFileSync(file, 'utf8'), 'untouched');
  truncateSync(file);
  assert.equal(bench.take(), 0);
});

/** As QEMU does for a guest that writes to its serial port without end: a system call for each byte. */
const flooder = `
const fs = require('node:fs');
const fd = fs.openSync(process.argv[1], 'a');
const byte = Buffer.from('x');
for (;;) fs.writeSync(fd, byte);
`;

interface Cost {
  readonly ofACore: number;
  readonly turnsPerSecond: number;
  readonly bytesPerSecond: number;
}

/** Of a second in which the relay passes on what it can. */
async function costOf(bench: Bench): Promise<Cost> {
  const turns = (): number => performance.nodeTiming.uvMetricsInfo.loopCount;
  const [used, bytes, begun, turned] = [
    process.cpuUsage(),
    bench.bytes,
    performance.now(),
    turns(),
  ];
  while (performance.now() - begun < 1000) {
    bench.take();
    await sleep(20);
  }
  const { user, system } = process.cpuUsage(used);
  const seconds = (performance.now() - begun) / 1000;
  return {
    ofACore: (user + system) / 1e6 / seconds,
    turnsPerSecond: (turns() - turned) / seconds,
    bytesPerSecond: (bench.bytes - bytes) / seconds,
  };
}

/** A turn of the loop for each notice would be 15 000 a second. */
function isSmall({ ofACore, turnsPerSecond, bytesPerSecond }: Cost): boolean {
  return ofACore < 0.2 && turnsPerSecond < 5000 && bytesPerSecond > 10_000;
}

test('V-105: a line in a while costs one read and one wait for the next, however quiet it is between', async (t) => {
  const bench = new Bench(t);
  const watched = t.mock.method(fs, 'watch');
  const read = t.mock.method(fs, 'readSync');
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  });
  await using relay = bench.open();
  const waits = (times: number) => eventually(() => watched.mock.callCount() === times, 'a wait');
  await waits(1);
  for (let line = 1; line <= 3; line += 1) {
    const before = read.mock.callCount();
    bench.append(`line ${line}\n`);
    await waits(1 + line);
    assert.equal(read.mock.callCount() - before, 1);
  }
  await relay.finish(shortly());
  await bench.until('line 1\nline 2\nline 3\n');
});

test('a guest that writes without end costs a small part of a core', async (t) => {
  const bench = new Bench(t);
  await using relay = bench.open();
  const child = spawn(process.execPath, ['-e', flooder, bench.history], { stdio: 'inherit' });
  t.after(() => child.kill('SIGKILL'));
  await eventually(() => bench.take() > 0, 'the first output');
  const until = performance.now() + patient(20_000);
  let cost = await costOf(bench);
  while (!isSmall(cost) && performance.now() < until) cost = await costOf(bench);
  assert.ok(isSmall(cost), JSON.stringify(cost));
  child.kill('SIGKILL');
  await once(child, 'exit');
  await relay.finish(shortly());
});
