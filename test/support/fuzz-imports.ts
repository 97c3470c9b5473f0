/** Damages archives and imports them in memory, and headers of disks: `npm run fuzz [INPUTS] [SEED]`. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { ImageError } from '#image';
import { ContainedProgram } from '../../src/image/import/contained-program.ts';
import { FedProgram } from '../../src/image/import/fed-program.ts';
import { headBytes, packingOf } from '../../src/image/import/packing.ts';
import { fuzzHeaders } from './fuzz-headers.ts';
import { importBytes } from './memory-import.ts';
import { patient } from './patience.ts';
import { randomOf } from './random.ts';
import { octal, withChecksum } from './tar-blocks.ts';

export interface FuzzResult {
  readonly imported: number;
  readonly refused: number;
  /** Of memory, from a tenth of the inputs on. */
  readonly growthMiB: number;
}

const maxMsAnInput = 5000;

/** Rejects with the number of the input that crashed or took too long. */
export async function fuzzImports(options: {
  readonly seed: number;
  readonly inputs: number;
  /** Only files for programs of the host, each by one as this user. */
  readonly uid?: number;
}): Promise<FuzzResult> {
  const corpus = makeCorpus().filter((it) => options.uid === undefined || programOf(it));
  const random = randomOf(options.seed);
  let [imported, refused, atFirst] = [0, 0, 0];
  for (let input = 0; input < options.inputs; input += 1) {
    const bytes = damage(corpus[random(corpus.length)] ?? Buffer.alloc(0), random);
    if (input === Math.floor(options.inputs / 10)) atFirst = process.memoryUsage.rss();
    const timeout = AbortSignal.timeout(patient(maxMsAnInput));
    const hangs = new Promise<never>((_, reject) => {
      timeout.onabort = () => reject(new Error(`input ${input} does not end`));
    });
    try {
      await Promise.race([importOne(bytes, 256 + random(8192), options.uid), hangs]);
      imported += 1;
    } catch (cause) {
      if (!(cause instanceof ImageError) || cause.code === 'io') {
        throw new Error(`input ${input} of seed ${options.seed}`, { cause });
      }
      refused += 1;
    } finally {
      timeout.onabort = null;
    }
  }
  const growthMiB = Math.round((process.memoryUsage.rss() - atFirst) / 2 ** 20);
  return { imported, refused, growthMiB };
}

async function importOne(bytes: Buffer, pieceBytes: number, uid?: number): Promise<unknown> {
  const how = uid === undefined ? undefined : programOf(bytes);
  if (uid === undefined || how === undefined) return importBytes(bytes, { pieceBytes });
  await using contained = await ContainedProgram.start(how, {
    uid,
    maxBytes: 2 ** 24,
    begin: bytes.subarray(0, pieceBytes),
  });
  if (contained === undefined) throw new Error(`${how} cannot be started`);
  return await importBytes(bytes, { pieceBytes, program: new FedProgram(contained.pipes) });
}

/** Which program of the host decompresses the file. */
function programOf(bytes: Buffer): 'xz' | 'bzip2' | undefined {
  const packing = packingOf(bytes.subarray(0, headBytes));
  return packing === 'xz' || packing === 'bzip2' ? packing : undefined;
}

/** Small files of every kind that is imported. */
function makeCorpus(): readonly Buffer[] {
  const dir = mkdtempSync(join(tmpdir(), 'nq-fuzz-'));
  try {
    const disk = Buffer.alloc(16 * 1024);
    for (let at = 0; at < 6; at += 1) disk.fill(0x5a, at * 2048, at * 2048 + 512);
    mkdirSync(join(dir, 'disk'));
    writeFileSync(join(dir, 'disk/disk.raw'), disk);
    execFileSync('fallocate', ['-d', join(dir, 'disk/disk.raw')]);
    const tar = (...args: readonly string[]): Buffer => {
      const path = join(dir, 'archive');
      execFileSync('tar', ['-C', dir, ...args, '-b1', '-cf', path, 'disk/disk.raw']);
      return readFileSync(path);
    };
    const tars = [
      tar('--format=ustar'),
      tar('--format=gnu', '-S'),
      ...['0.0', '0.1', '1.0'].map((it) => tar('--format=pax', '-S', `--sparse-version=${it}`)),
    ];
    const layer = tars[1] ?? disk;
    const packed = [gzipSync(layer), zstdCompressSync(layer)];
    const byProgram = ['xz', 'bzip2'].map((it) => execFileSync(it, ['-c'], { input: layer }));
    writeFileSync(join(dir, 'disk/disk.raw'), packed[0] ?? disk);
    // Archives have the larger part: they are what is read here, decompressors are the systems' own.
    return [...tars, ...tars, ...tars, tar(), ...packed, ...byProgram];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const numbers = [
  octal(0),
  octal(512),
  octal(2 ** 33 - 1),
  Buffer.from('800000007fffffffffffffff', 'hex'),
  Buffer.from('ffffffffffffffffffffffff', 'hex'),
  Buffer.from('zzzzzzzzzzzz'),
  Buffer.alloc(12),
];
const fields = [124, 148, 386, 398, 410, 483];
const types = 'xgKLSMV0123456789';

/** One to four changes; the checksums of headers are mostly made right again, so that the rest is read as well. */
function damage(original: Buffer, random: (below: number) => number): Buffer {
  let bytes = Buffer.from(original);
  for (let count = 1 + random(4); count > 0; count -= 1) {
    const at = random(bytes.length);
    const block = at - (at % 512);
    switch (random(7)) {
      case 0:
        bytes[at] = random(256);
        break;
      case 1:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
        break;
      case 2:
        bytes = bytes.subarray(0, 1 + at);
        break;
      case 3:
        numbers[random(numbers.length)]?.copy(bytes, block + (fields[random(fields.length)] ?? 0));
        break;
      case 4:
        if (block + 157 < bytes.length)
          bytes.write(types[random(types.length)] ?? '0', block + 156);
        break;
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, block), bytes.subarray(random(bytes.length))]);
        break;
      default:
        bytes.write(`${random(10)}`, at);
    }
    if (bytes.length === 0) return Buffer.from(original);
  }
  if (random(4) > 0) mendChecksums(bytes);
  return bytes;
}

function mendChecksums(bytes: Buffer): void {
  for (let at = 0; at + 512 <= bytes.length; at += 512) {
    const block = bytes.subarray(at, at + 512);
    if (block.toString('latin1', 257, 262) === 'ustar') withChecksum(block);
  }
}

if (import.meta.main) {
  const [inputs = 1_000_000, seed = Date.now() % 2 ** 32] = process.argv.slice(2).map(Number);
  console.log(`${inputs} inputs of seed ${seed}`);
  console.log(await fuzzImports({ seed, inputs }));
  console.log(await fuzzHeaders({ seed, inputs }));
  // Each input starts a process.
  const contained = { seed, inputs: Math.ceil(inputs / 100), uid: 70_324 };
  if (process.getuid?.() === 0) console.log(await fuzzImports(contained));
}
