import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type FileFormat, refusalOf, sniff } from '../../src/image/sniff.ts';
import { patient } from '../support/patience.ts';

const at = (offset: number, ...bytes: number[]): Uint8Array => {
  const head = new Uint8Array(4096);
  head.set(bytes, offset);
  return head;
};
const text = (content: string, offset = 0): Uint8Array => at(offset, ...Buffer.from(content));

/** Its name is `x`, and its checksum 376: 120, and eight blanks in the place of the checksum. */
const oldTar = new Uint8Array(4096);
oldTar.set(Buffer.from('x'));
oldTar.set(Buffer.from('000570\0 '), 148);

const cases: Readonly<Record<string, readonly [FileFormat, Uint8Array]>> = {
  'a qcow2 image': ['qcow2', at(0, 0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3)],
  'a sparse VMDK': ['vmdk', text('KDMV')],
  'an old VMDK': ['vmdk', text('COWD')],
  'a VMDK descriptor': ['vmdk', text('# Disk DescriptorFile\nversion=1\nCID=fffffffe\n')],
  'a VMDK descriptor in capitals, after blanks': ['vmdk', text(' \n# DISK DESCRIPTORFILE\r\n')],
  'a VMDK descriptor that only QEMU takes for one': ['vmdk', text('# harmless\n\n#\nversion=2\n')],
  'a VMDK descriptor with Windows line ends': ['vmdk', text('# a\r\n\r\n \r\nversion=2\r\n')],
  'a VHDX image': ['vhdx', text('vhdxfile')],
  'a VHD image': ['vpc', text('conectix')],
  'a VDI image': ['vdi', at(0x40, 0x7f, 0x10, 0xda, 0xbe)],
  'a QED image': ['qed', text('QED\0')],
  'a LUKS volume': ['luks', at(0, 0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe)],
  'a Parallels image': ['parallels', text('WithoutFreeSpace')],
  'a gzip file': ['gzip', at(0, 0x1f, 0x8b, 0x08)],
  'an xz file': ['xz', at(0, 0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00)],
  'a zstd file': ['zstd', at(0, 0x28, 0xb5, 0x2f, 0xfd)],
  'a bzip2 file': ['bzip2', text('BZh9')],
  'a zip file': ['zip', text('PK\x03\x04')],
  'a tar archive': ['tar', text('ustar', 257)],
  'a tar archive without a mark': ['tar', oldTar],
  'what has the form of a tar header, with a wrong checksum': ['raw', oldTar.with(0, 0x79)],
  'a boot sector': ['raw', at(510, 0x55, 0xaa)],
  'an ISO 9660 image': ['raw', new Uint8Array(4096)],
  'a text of no kind': ['raw', text('#!/bin/sh\necho version=1\n')],
  'an empty file': ['raw', new Uint8Array(0)],
  'three bytes of a qcow2 mark': ['raw', Uint8Array.of(0x51, 0x46, 0x49)],
};
for (const [name, [format, head]] of Object.entries(cases)) {
  test(`V-35: ${name} is recognised as ${format}`, () => {
    assert.equal(sniff(head), format);
  });
}

test('V-35: raw and qcow2 are what an emulator gets, all other formats are refused by name', () => {
  const formats = new Set(Object.values(cases).map(([format]) => format));
  for (const format of formats) {
    const refusal = refusalOf(format);
    if (format === 'raw' || format === 'qcow2') assert.equal(refusal, undefined);
    else assert.match(refusal ?? '', new RegExp(`${format}.* (not supported|no emulator)`, 'i'));
  }
});

const remedies: Readonly<Partial<Record<FileFormat, RegExp>>> = {
  gzip: /unpack it first with: gunzip /,
  zstd: /unpack it first with: unzstd /,
  tar: /unpack it first with: tar -xf /,
  vmdk: /convert it with: qemu-img convert -f vmdk -O qcow2 /,
  vpc: /convert it with: qemu-img convert -f vpc -O qcow2 /,
  luks: /decrypt it /,
};
for (const [format, remedy] of Object.entries(remedies)) {
  test(`V-35: the refusal of ${format} names the remedy, and promises nothing`, () => {
    const found = Object.values(cases).find(([it]) => it === format);
    assert.ok(found !== undefined);
    assert.match(refusalOf(found[0]) ?? '', remedy);
    assert.doesNotMatch(refusalOf(found[0]) ?? '', /later|yet|will/);
  });
}

test('sniff: property: no bytes make it throw, and the same bytes give the same', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 512 }), (bytes) => {
      assert.equal(sniff(bytes), sniff(bytes.slice()));
    }),
  );
});

test('sniff: hostile text does not make the VMDK check slow', () => {
  const pieces = ['#\n', '#\r\n', '# \r\n', '\r\n', '# \t', '\t', '\n', '#'.repeat(50), ' \n#'];
  // The short ones first: what doubles with each line shows there, and at full length would never end.
  for (const bytes of [84, 4096]) {
    for (const piece of pieces) {
      const started = performance.now();
      sniff(Buffer.from(piece.repeat(bytes).slice(0, bytes)));
      const ms = performance.now() - started;
      assert.ok(ms < patient(200), `${ms} ms for ${bytes} bytes of ${JSON.stringify(piece)}`);
    }
  }
});
