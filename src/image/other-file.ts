import { readAt } from './positional.ts';

/** What a file is that has no mark of a disk's format and can't be a disk, and what to do, as the end of a sentence. */
export async function otherFile(
  { fd, stats }: { readonly fd: number; readonly stats: { readonly size: number } },
  head: Uint8Array,
): Promise<string | undefined> {
  // A TextDecoder's latin1 is windows-1252, which has other characters for 80 to 9f.
  const text = Buffer.from(head).toString('latin1');
  const found =
    marks.find(([mark]) => mark.test(text)) ?? binaryMarks.find(([mark]) => text.startsWith(mark));
  if (found !== undefined) return found[1];
  return (await isAppleImage(fd, stats.size)) ? appleImage : undefined;
}

const download =
  'a server gave it in the place of the image: check the address that it was fetched from';

const appleImage =
  'it is an Apple disk image (DMG), which is not supported; convert it with: qemu-img convert -f dmg -O qcow2 IMAGE IMAGE.qcow2';

/** By the first characters, after a byte order mark and blanks in those that are text. */
const marks: readonly (readonly [RegExp, string])[] = [
  [/^(?:\xef\xbb\xbf)?\s{0,200}<(?:!doctype html|html|head)\b/i, `it is an HTML page; ${download}`],
  [
    /^(?:\xef\xbb\xbf)?\s{0,200}<(?:.{0,2000}?<)?(?:\w{1,20}:)?Envelope\b/s,
    "it is an OVF description, which names the disk's file: write the name of that file",
  ],
  [/^(?:\xef\xbb\xbf)?\s{0,200}<\?xml\b/, `it is an XML text; ${download}`],
  [
    /^version https:\/\/git-lfs\.github\.com\/spec\//,
    'it is a pointer of Git LFS, without the content; fetch that with: git lfs pull',
  ],
  [/^%PDF-/, 'it is a PDF document'],
];

const unpackFirst = (what: string, command: string): string =>
  `it is ${what}, which is not supported; unpack it first with: ${command}`;

const binaryMarks: readonly (readonly [string, string])[] = [
  ['\x7fELF', 'it is a program (ELF)'],
  ['7z\xbc\xaf\x27\x1c', unpackFirst('a 7z archive', '7z x IMAGE')],
  ['Rar!\x1a\x07', unpackFirst('a RAR archive', 'unrar x IMAGE')],
  ['\x04\x22\x4d\x18', unpackFirst('lz4-compressed', 'unlz4 IMAGE')],
  ['\x02\x21\x4c\x18', unpackFirst('lz4-compressed', 'unlz4 IMAGE')],
  ['\x89LZO\0', unpackFirst('lzop-compressed', 'lzop -d IMAGE')],
  ['LZIP\x01', unpackFirst('lzip-compressed', 'lzip -d IMAGE')],
  ['\x5d\0\0\x80\0\xff\xff\xff\xff', unpackFirst('lzma-compressed', 'unlzma IMAGE')],
  ['\x1f\x9d', unpackFirst('compressed by compress', 'uncompress IMAGE')],
  ['070701', unpackFirst('a cpio archive', 'cpio -id < IMAGE')],
  ['070707', unpackFirst('a cpio archive', 'cpio -id < IMAGE')],
  ['MSWIM\0\0\0', 'it is a Windows image (WIM), which is no disk: install it on one first'],
];

/** A DMG has its mark in its last 512 bytes (the structure UDIFResourceFile). */
async function isAppleImage(fd: number, fileBytes: number): Promise<boolean> {
  if (fileBytes < 512) return false;
  const end = await readAt(fd, new Uint8Array(4), fileBytes - 512);
  return Buffer.from(end).toString('latin1') === 'koly';
}
