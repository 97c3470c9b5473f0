import { blocksOf, octal, pax, tarEnd, tarHeader } from './tar-blocks.ts';

/** What may begin a disk. */
export const sector = Buffer.concat([Buffer.from('\xeb\x3c\x90', 'latin1'), Buffer.alloc(509)]);

/** An old GNU sparse header. */
function sparse(
  fileBytes: number | Buffer,
  parts: readonly (readonly [number, number])[],
  more = 0,
): Buffer {
  const map = Buffer.concat(parts.flatMap(([at, length]) => [octal(at), octal(length)]));
  const stored = parts.reduce((sum, [, length]) => sum + length, 0);
  const size = typeof fileBytes === 'number' ? octal(fileBytes) : fileBytes;
  return tarHeader({
    type: 'S',
    size: stored,
    at: { 386: map, 482: Buffer.of(more), 483: size },
  });
}

const huge = Buffer.from('800000008000000000000000', 'hex');
const negative = Buffer.from('ffffffffffffffffffffff00', 'hex');
/** An archive of one disk, without its end. */
export const oneFile = Buffer.concat([tarHeader({ size: 512 }), sector]);
const sparsePax = (records: Record<string, string>, stored = 512): Buffer =>
  Buffer.concat([
    pax({ 'GNU.sparse.size': '4096', ...records }),
    tarHeader({ size: stored }),
    blocksOf(Buffer.alloc(stored, 7)),
  ]);

const cases: Readonly<Record<string, readonly [file: Buffer, message: RegExp]>> = {
  'a size of 2^63': [tarHeader({ size: huge }), /a size that is none or too large/],
  'a negative size': [tarHeader({ size: negative }), /header in it is not valid|none or too large/],
  'a size that is no number': [tarHeader({ size: Buffer.from('zzzzzzz') }), /header in it is not/],
  'a size of 2^63 in an extended header': [
    Buffer.concat([pax({ size: '9223372036854775808' }), oneFile]),
    /a size that is none or too large/,
  ],
  'a negative size in an extended header': [
    Buffer.concat([pax({ size: '-512' }), oneFile]),
    /header in it is not valid/,
  ],
  'an extended header of 8 GiB': [
    tarHeader({ type: 'x', size: 2 ** 33 - 1 }),
    /a header in the archive has 8589934591 bytes/,
  ],
  'a global header of 2^63': [tarHeader({ type: 'g', size: huge }), /none or too large/],
  'a long name of 2 MiB': [tarHeader({ type: 'L', size: 2 ** 21 }), /has 2097152 bytes/],
  'a name of 5000 bytes': [
    Buffer.concat([pax({ path: 'x'.repeat(5000) }), oneFile]),
    /a name in the archive has more than 4096 bytes/,
  ],
  'extended headers without end': [
    Buffer.concat(Array.from({ length: 50 }, () => pax({ a: 'b' }))),
    /too many extended headers/,
  ],
  'a wrong checksum': [Buffer.concat([oneFile, Buffer.alloc(512, 1)]), /header in it is not valid/],
  'a map that overlaps': [
    sparse(4096, [
      [0, 512],
      [511, 512],
    ]),
    /overlap or are not in their order/,
  ],
  'a map that is not sorted': [
    sparse(4096, [
      [1024, 512],
      [0, 512],
    ]),
    /overlap or are not in their order/,
  ],
  'a map past the end': [sparse(4096, [[4000, 512]]), /a part behind its end/],
  'a sparse file of 2^63': [sparse(huge, [[0, 512]]), /none or too large/],
  'a sparse file of a negative size': [sparse(negative, [[0, 512]]), /none or too large/],
  'a map with other bytes than are stored': [
    tarHeader({
      type: 'S',
      size: 1024,
      at: { 386: Buffer.concat([octal(0), octal(512)]), 483: octal(4096) },
    }),
    /512 bytes in parts but 1024 stored/,
  ],
  'a map that goes on for ever': [
    Buffer.concat([
      sparse(4096, [[0, 0]], 1),
      ...Array.from({ length: 9 }, () => Buffer.alloc(512, 1)),
    ]),
    /goes on behind its end|none or too large/,
  ],
  'PAX 0.1: half a pair': [sparsePax({ 'GNU.sparse.map': '0,512,1024' }), /a map without pairs/],
  'PAX 0.1: past the end': [sparsePax({ 'GNU.sparse.map': '4000,512' }), /behind its end/],
  'PAX 0.1: numbers of 2^63': [
    sparsePax({ 'GNU.sparse.map': '9223372036854775808,512' }),
    /none or too large/,
  ],
  'PAX 0.0: a length without its place': [
    sparsePax({ 'GNU.sparse.numbytes': '512' }),
    /a map without pairs/,
  ],
  'PAX 1.0: a map without end': [
    sparsePax({ 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0' }),
    /too long in its map|longer than it/,
  ],
  'PAX 2.0': [
    sparsePax({ 'GNU.sparse.major': '2', 'GNU.sparse.minor': '0' }),
    /of a format that is unknown/,
  ],
};

/** Archives with something that none may have, and why each is refused. */
export const hostileArchives: readonly {
  readonly name: string;
  readonly bytes: Buffer;
  readonly message: RegExp;
}[] = Object.entries(cases).map(([name, [bytes, message]]) => ({
  name,
  bytes: Buffer.concat([bytes, tarEnd]),
  message,
}));
