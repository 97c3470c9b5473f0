import { inspectForeign } from '../../src/image/convert/foreign.ts';
import { layOutOverlay } from '../../src/image/overlay-layout.ts';
import { inspectQcow2 } from '../../src/image/qcow2.ts';
import { sniffBytes } from '../../src/image/sniff.ts';
import { vdi, vhdx, vmdk, vpc } from './foreign-images.ts';
import { type Random, randomOf } from './random.ts';

const MiB = 2 ** 20;
/** What any gate may read of one image. */
const maxReadBytes = 64 * MiB;
const header = layOutOverlay({ virtualBytes: 1024 * MiB }).pieces[0]?.bytes ?? new Uint8Array();
/** Of each its bytes, and where there is something in them. */
const images = {
  vmdk: withHotPlaces(vmdk()),
  vdi: withHotPlaces(vdi()),
  vhdx: withHotPlaces(vhdx()),
  vpc: withHotPlaces(vpc()),
  qcow2: withHotPlaces(Buffer.concat([header, Buffer.alloc(256 * 1024 - header.length)])),
} as const;
const formats = ['vmdk', 'vdi', 'vhdx', 'vpc', 'qcow2'] as const;
const values = [0n, 1n, 512n, 0xffff_ffffn, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n];

export interface HeaderFuzzResult {
  readonly passed: number;
  readonly refused: number;
}

/** Gives damaged headers to the gate of their format. Rejects with the number of the input that made it throw or read too much. */
export async function fuzzHeaders(options: {
  readonly seed: number;
  readonly inputs: number;
}): Promise<HeaderFuzzResult> {
  const random = randomOf(options.seed);
  let [passed, refused] = [0, 0];
  for (let input = 0; input < options.inputs; input += 1) {
    const format = formats[random(formats.length)] ?? 'qcow2';
    try {
      const { virtualBytes, problems } = await inspect(format, random);
      if (problems.length > 0) refused += 1;
      else if (Number.isSafeInteger(virtualBytes) && virtualBytes > 0) passed += 1;
      else throw new Error(`a disk of ${virtualBytes} bytes passed`);
    } catch (cause) {
      throw new Error(`input ${input} of seed ${options.seed}, a ${format}`, { cause });
    }
  }
  return { passed, refused };
}

async function inspect(format: keyof typeof images, random: Random) {
  const { file, hot } = images[format];
  const changes = Array.from({ length: 1 + random(6) }, () => changeOf(hot, random));
  const fileBytes = random(8) === 0 ? random(file.length) : file.length;
  let bytesRead = 0;
  const read = (offset: number, bytes: number): Buffer => {
    bytesRead += bytes;
    if (bytesRead > maxReadBytes) throw new Error(`it reads ${bytesRead} bytes`);
    const part = Buffer.from(file.subarray(offset, Math.min(fileBytes, offset + bytes)));
    for (const { at, value } of changes) {
      for (const [index, byte] of value.entries()) {
        const place = at + index - offset;
        if (place >= 0 && place < part.length) part[place] = byte;
      }
    }
    return part;
  };
  if (format === 'qcow2') return inspectQcow2(read(0, sniffBytes), fileBytes);
  return inspectForeign(format, { fileBytes, read: async (offset, bytes) => read(offset, bytes) });
}

/** One byte, or a number that gates have to beware of, where the header has something. */
function changeOf(hot: readonly number[], random: Random) {
  const at = hot[random(hot.length)] ?? 0;
  if (random(2) === 0) return { at, value: Buffer.of(random(256)) };
  const value = Buffer.alloc(8);
  const number = values[random(values.length)] ?? 0n;
  if (random(2) === 0) value.writeBigUInt64BE(number);
  else value.writeBigUInt64LE(number);
  return random(2) === 0 ? { at, value } : { at, value: value.subarray(0, 4) };
}

function withHotPlaces(file: Buffer) {
  const hot = Array.from(file.entries()).flatMap(([at, byte]) => (byte === 0 ? [] : [at]));
  return { file, hot };
}
