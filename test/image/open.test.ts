import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  fstatSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { gzipSync } from 'node:zlib';
import { type ImageRoots, type OpenImage, readBytes } from '../../src/image/index.ts';
import { openImage } from '../../src/image/open-image.ts';
import { closedAgain, openFds } from '../support/open-files.ts';
import { patient } from '../support/patience.ts';
import { notAllowed, notFound, notRegular, tooLarge } from '../support/refused.ts';
import { tmpDir } from '../support/tmp.ts';

const limit = { maxVirtualBytes: 2 ** 40 };
const soon = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(5000) });

/** images/ is trusted, alloc/ is written by tasks, host/ is what nobody may reach. */
function hostOf(t: TestContext): {
  readonly at: (path: string) => string;
  readonly roots: ImageRoots;
} {
  const dir = tmpDir(t);
  const at = (path: string): string => join(dir, path);
  for (const name of ['images/sub', 'alloc/task/local', 'host'])
    mkdirSync(at(name), { recursive: true });
  writeFileSync(at('images/base.img'), 'base');
  writeFileSync(at('images/sub/deep.img'), 'deep');
  writeFileSync(at('alloc/task/local/own.img'), 'own');
  writeFileSync(at('host/secret'), 'CANARY');
  const roots = {
    trusted: [at('images')],
    task: [at('alloc')],
    relativeTo: [at('alloc/task'), at('images')],
  };
  return { at, roots };
}

function content({ fd }: OpenImage): string {
  const buffer = Buffer.alloc(100);
  return buffer.toString('utf8', 0, readSync(fd, buffer, 0, 100, 0));
}

async function read(name: string, roots: ImageRoots): Promise<string> {
  using image = await openImage(name, roots, limit, soon());
  return content(image);
}

test('V-33: absolute names inside the allowed directories are opened', async (t) => {
  const { at, roots } = hostOf(t);
  assert.equal(await read(at('images/base.img'), roots), 'base');
  assert.equal(await read(at('images/sub/../sub/deep.img'), roots), 'deep');
  assert.equal(await read(at('alloc/task/local/own.img'), roots), 'own');
});

test('V-32: relative names are looked up in order, the first one found wins', async (t) => {
  const { at, roots } = hostOf(t);
  assert.equal(await read('local/own.img', roots), 'own');
  assert.equal(await read('base.img', roots), 'base');
  writeFileSync(at('alloc/task/base.img'), 'mine');
  assert.equal(await read('base.img', roots), 'mine');
  await assert.rejects(read('none.img', roots), {
    name: 'ImageError',
    code: 'refused',
    message: `there is no file none.img in ${at('alloc/task')}, ${at('images')}`,
  });
});

const links: Readonly<Record<string, readonly [string, string, string | typeof notFound]>> = {
  'relative, inside one directory': ['images/link', 'sub/deep.img', 'deep'],
  'up and down inside one directory': ['images/sub/link', '../base.img', 'base'],
  'absolute, inside one directory': ['images/link', '@images/base.img', 'base'],
  'from the task to a trusted image': ['alloc/task/link', '@images/base.img', 'base'],
  'relative from one allowed directory to another': [
    'alloc/task/link',
    '../../images/base.img',
    'base',
  ],
  'to a host file, absolute': ['alloc/task/link', '@host/secret', notAllowed],
  'to a host file, relative': ['alloc/task/link', '../../host/secret', notAllowed],
  'to a host file from a trusted directory': ['images/link', '@host/secret', notAllowed],
  'through /proc/self/root': ['alloc/task/link', '/proc/self/root/etc/hostname', notAllowed],
  'to itself': ['alloc/task/link', 'link', notAllowed],
  'to a host file that does not exist': ['alloc/task/link', '@host/none', notAllowed],
  'to nothing inside': ['alloc/task/link', 'local/none', notFound],
};
for (const [name, [from, to, expected]] of Object.entries(links)) {
  test(`V-33 D4: a link ${name}`, async (t) => {
    const { at, roots } = hostOf(t);
    symlinkSync(to.startsWith('@') ? at(to.slice(1)) : to, at(from));
    if (typeof expected === 'string') assert.equal(await read(at(from), roots), expected);
    else await assert.rejects(read(at(from), roots), expected);
  });
}

test('V-33 D4: a directory on the way may be a link, and is held to the same rule', async (t) => {
  const { at, roots } = hostOf(t);
  symlinkSync(at('host'), at('alloc/task/dir'));
  symlinkSync('sub', at('images/dir'));
  await assert.rejects(read(at('alloc/task/dir/secret'), roots), notAllowed);
  await assert.rejects(read('dir/secret', roots), notAllowed);
  assert.equal(await read(at('images/dir/deep.img'), roots), 'deep');
});

test('V-33: names outside are refused alike whether the file exists or not', async (t) => {
  const { at, roots } = hostOf(t);
  const messages: string[] = [];
  for (const name of [
    'host/secret',
    'host/absent',
    'alloc/../host/secret',
    'images/../host/none',
  ]) {
    await assert.rejects(read(at(name), roots), (error: { code: string; message: string }) => {
      messages.push(error.message.replace(/^\S+/, 'X'));
      assert.match(error.message, new RegExp(`^${at(join(name))} is not inside .*${at('images')}`));
      return error.code === 'refused';
    });
  }
  assert.equal(new Set(messages).size, 1);
  await assert.rejects(read('../../host/secret', roots), notAllowed);
  await assert.rejects(read('/etc/shadow', roots), notAllowed);
  await assert.rejects(read('/proc/self/environ', roots), notAllowed);
});

test('V-33: a directory whose name begins like an allowed one is not allowed', async (t) => {
  const { at, roots } = hostOf(t);
  mkdirSync(at('images-private'));
  writeFileSync(at('images-private/x'), 'CANARY');
  await assert.rejects(read(at('images-private/x'), roots), notAllowed);
  writeFileSync(at('images/..x'), 'fine');
  assert.equal(await read(at('images/..x'), roots), 'fine');
});

test('V-33: an allowed directory may be named through a link, or not exist', async (t) => {
  const { at, roots } = hostOf(t);
  symlinkSync(at('images'), at('alias'));
  const aliased = { ...roots, trusted: [at('nowhere'), at('alias'), 'not-absolute'] };
  assert.equal(await read(at('alias/base.img'), aliased), 'base');
  assert.equal(await read(at('images/base.img'), aliased), 'base');
  await assert.rejects(read(at('alias/none'), aliased), notFound);
  await assert.rejects(read(at('images/none'), aliased), notFound);
  await assert.rejects(read(at('nowhere/none'), aliased), notFound);
});

test('V-33: a hard link in a directory that tasks write is refused, in a trusted one it is fine', async (t) => {
  const { at, roots } = hostOf(t);
  linkSync(at('host/secret'), at('alloc/task/innocent.img'));
  await assert.rejects(read(at('alloc/task/innocent.img'), roots), {
    code: 'refused',
    message: /2 names \(hard links\)/,
  });
  linkSync(at('images/base.img'), at('images/second.img'));
  assert.equal(await read(at('images/second.img'), roots), 'base');
});

test('V-33: of two nested allowed directories the stricter one decides', async (t) => {
  const { at, roots } = hostOf(t);
  linkSync(at('host/secret'), at('alloc/task/innocent.img'));
  const nested = { ...roots, trusted: [at('.'), '/'] };
  await assert.rejects(read(at('alloc/task/innocent.img'), nested), notAllowed);
  assert.equal(await read(at('images/base.img'), nested), 'base');
});

test('V-33: a denied directory inside an allowed one is closed, by whatever way', async (t) => {
  const { at, roots } = hostOf(t);
  mkdirSync(at('images/vms/other'), { recursive: true });
  writeFileSync(at('images/vms/other/disk.raw'), 'CANARY');
  symlinkSync('../images/vms/other/disk.raw', at('alloc/link'));
  symlinkSync(at('images/vms'), at('vms'));
  const closed = { ...roots, denied: [at('vms'), at('nowhere')] };
  for (const name of [
    'images/vms/other/disk.raw',
    'images/vms/none',
    'alloc/link',
    'vms/other/x',
  ]) {
    await assert.rejects(read(at(name), closed), notAllowed);
  }
  // Of the places where a relative name is looked up, a closed one is passed over.
  await assert.rejects(read('vms/other/disk.raw', closed), notFound);
  assert.equal(await read(at('images/base.img'), closed), 'base');
});

test('V-32: an address in the place of a path is answered with the path, or the artifact block, to write', async (t) => {
  const { at, roots } = hostOf(t);
  const cases = [
    [`file://${at('images/base.img')}`, `write ${at('images/base.img')}`],
    ['FILE:///a.img', 'write /a.img'],
    [
      'https://example.org/cloud/debian.qcow2?archive=false#a',
      'fetch it with an artifact block, with mode = "file", and name the file that it becomes, such as local/debian.qcow2',
    ],
    [
      's3+http://example.org/a.img',
      'fetch it with an artifact block, with mode = "file", and name the file that it becomes, such as local/a.img',
    ],
  ] as const;
  for (const [name, remedy] of cases) {
    const message = `${name} is an address, not a path: ${remedy}`;
    await assert.rejects(read(name, roots), { code: 'refused', message });
    await assert.rejects(readBytes(name, roots, { maxBytes: 9 }, soon()), { message });
  }
  await assert.rejects(read('a:b//c', roots), notFound);
});

const page = '<!DOCTYPE html>\n<html><head><title>404 Not Found</title>';
const envelope =
  '<?xml version="1.0"?>\n<!-- a -->\n<ovf:Envelope xmlns="http://schemas.dmtf.org/ovf">';
const others: Readonly<Record<string, readonly [string | Buffer, RegExp]>> = {
  'an HTML page': [page, /is an HTML page; a server gave it in the place of the image/],
  'an HTML page after a byte order mark and blanks': [
    `\ufeff\r\n  <HTML lang="en">`,
    /an HTML page/,
  ],
  'an OVF description': [envelope, /is an OVF description, .*: write the name of that file/],
  'the XML error of an object store': [
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
    /is an XML text; a server gave it/,
  ],
  'a pointer of Git LFS': [
    'version https://git-lfs.github.com/spec/v1\noid sha256:0\n',
    /a pointer of Git LFS.*git lfs pull/,
  ],
  'a PDF document': ['%PDF-1.7\n', /is a PDF document/],
  'a program': ['\x7fELF\x02', /is a program \(ELF\)/],
  'a RAR archive': ['Rar!\x1a\x07\x01', /is a RAR archive.*unrar x/],
  'an lz4 file': [Buffer.from('04224d18644', 'hex'), /is lz4-compressed.*unlz4 IMAGE/],
  'an old lz4 file': [Buffer.from('02214c18644', 'hex'), /is lz4-compressed.*unlz4 IMAGE/],
  'an lzop file': [Buffer.from('894c5a4f000d', 'hex'), /is lzop-compressed.*lzop -d/],
  'an lzip file': ['LZIP\x01', /is lzip-compressed.*lzip -d/],
  'an lzma file': [Buffer.from(`5d00008000${'ff'.repeat(8)}`, 'hex'), /is lzma-compressed.*unlzma/],
  'a .Z file': [Buffer.from('1f9d90', 'hex'), /is compressed by compress.*uncompress/],
  'a cpio archive': ['07070100', /is a cpio archive.*cpio -id/],
  'an old cpio archive': ['070707000', /is a cpio archive.*cpio -id/],
  'a Windows image': ['MSWIM\0\0\0', /is a Windows image \(WIM\)/],
  'a DMG': [
    `${'\0'.repeat(1024)}koly${'\0'.repeat(508)}`,
    /is an Apple disk image \(DMG\).*-f dmg/,
  ],
};
for (const [name, [bytes, message]] of Object.entries(others)) {
  test(`V-35: ${name}, saved as an image, is refused by its kind`, async (t) => {
    const { at, roots } = hostOf(t);
    writeFileSync(at('images/a.img'), bytes);
    const fds = await openFds();
    await assert.rejects(read('a.img', roots), { code: 'refused', message });
    await closedAgain(fds);
    // The disk of a VM, whatever its guest has written into it.
    using image = await openImage('a.img', roots, { ...limit, format: 'raw' }, soon());
    assert.equal(image.format, 'raw');
  });
}

test('V-35: a text, a file system and the mark of a DMG elsewhere are disks', async (t) => {
  const { at, roots } = hostOf(t);
  for (const bytes of [
    '#cloud-config\n',
    '<',
    '<?',
    `koly${'\0'.repeat(2000)}`,
    'hsqs',
    ' '.repeat(4096),
  ]) {
    writeFileSync(at('images/a.img'), bytes);
    using image = await openImage('a.img', roots, limit, soon());
    assert.equal(image.format, 'raw');
  }
});

test('V-33: a FIFO is refused at once, a directory, device and socket by name', async (t) => {
  const { at, roots } = hostOf(t);
  execFileSync('mkfifo', [at('alloc/task/fifo')]);
  const started = performance.now();
  await assert.rejects(read('fifo', roots), { code: 'refused', message: /a FIFO/ });
  assert.ok(performance.now() - started < patient(1000));
  await assert.rejects(read('local', roots), {
    code: 'refused',
    message:
      /is a directory, not a regular file: name the file in it, or write mode = "file" in the artifact/,
  });
  await assert.rejects(read(at('images'), roots), { code: 'refused', message: /a directory/ });
  const devices = { ...roots, trusted: ['/dev'] };
  await assert.rejects(read('/dev/null', devices), { code: 'refused', message: /a device/ });
  const server = createServer().listen(at('alloc/task/sock'));
  await once(server, 'listening');
  await assert.rejects(read('sock', roots), { code: 'refused', message: /a socket/ });
  server.close();
});

test('V-33: what was checked is what is read: a swap after opening changes nothing', async (t) => {
  const { at, roots } = hostOf(t);
  using image = await openImage('local/own.img', roots, limit, soon());
  rmSync(at('alloc/task/local/own.img'));
  symlinkSync(at('host/secret'), at('alloc/task/local/own.img'));
  assert.equal(content(image), 'own');
});

test('V-33: links swapped in and out while opening never lead outside', async (t) => {
  const { at, roots } = hostOf(t);
  symlinkSync(at('host'), at('evil'));
  const stopSwapping = swap(at('alloc/task/local'), at('evil'), at('parked'));
  let opened = 0;
  try {
    writeFileSync(at('host/own.img'), 'CANARY');
    const until = performance.now() + 600;
    while (performance.now() < until) {
      const text = await read(at('alloc/task/local/own.img'), roots).catch((error) => {
        assert.equal(error.code, 'refused', String(error));
        assert.ok([notAllowed, notFound].some(({ message }) => message.test(error.message)));
        return undefined;
      });
      if (text !== undefined) {
        assert.equal(text, 'own');
        opened += 1;
      }
    }
  } finally {
    await stopSwapping();
  }
  t.diagnostic(`${opened} opens won the race`);
});

/** Exchanges a directory and a link for ever, in a thread of its own; returns what ends it. */
function swap(dir: string, evil: string, parked: string): () => Promise<unknown> {
  const code = `
    const { renameSync } = require('node:fs');
    const { dir, evil, parked, stop } = require('node:worker_threads').workerData;
    while (Atomics.load(stop, 0) === 0) {
      renameSync(dir, parked);
      renameSync(evil, dir);
      renameSync(dir, evil);
      renameSync(parked, dir);
    }`;
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(code, { eval: true, workerData: { dir, evil, parked, stop } });
  const ended = once(worker, 'exit');
  return () => {
    Atomics.store(stop, 0, 1);
    return ended;
  };
}

test('image: the descriptor is read-only, blocking, closed on exec and closed by disposal once', async (t) => {
  const { at, roots } = hostOf(t);
  const before = await openFds();
  const image = await openImage(at('images/base.img'), roots, limit, soon());
  const flags = Number.parseInt(
    /flags:\t(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${image.fd}`, 'utf8'))?.[1] ?? '',
    8,
  );
  assert.equal(flags & 0o3, 0);
  assert.equal(flags & 0o4000, 0);
  assert.equal(flags & 0o2000000, 0o2000000);
  const { fd } = image;
  image[Symbol.dispose]();
  await closedAgain(before);
  assert.throws(() => fstatSync(fd), { code: 'EBADF' });
  using other = await openImage(at('images/base.img'), roots, limit, soon());
  assert.equal(other.fd, fd);
  image[Symbol.dispose]();
  fstatSync(other.fd);
  assert.equal(await openFds(), before + 1);
});

test('image: refusals leave no descriptor behind', async (t) => {
  const { at, roots } = hostOf(t);
  linkSync(at('host/secret'), at('alloc/task/hard'));
  writeFileSync(at('images/empty'), '');
  writeFileSync(at('images/evil'), 'QFI\xfb', 'latin1');
  await read(at('images/base.img'), roots);
  const before = await openFds();
  for (const name of ['hard', 'local', 'empty', 'evil', 'none', '/etc/shadow', '']) {
    await assert.rejects(read(name, roots));
  }
  await assert.rejects(readBytes('base.img', roots, { maxBytes: 1 }, soon()));
  await closedAgain(before);
});

test('image: a raw disk has its file size in whole sectors; an empty file is refused', async (t) => {
  const { at, roots } = hostOf(t);
  using image = await openImage('base.img', roots, limit, soon());
  assert.deepEqual(
    [image.format, image.virtualBytes, image.fileBytes, image.path],
    ['raw', 512, 4, at('images/base.img')],
  );
  writeFileSync(at('images/empty'), '');
  await assert.rejects(read('empty', roots), { code: 'refused', message: /empty/ });
});

test('V-37 D29: a disk larger than was asked for is refused, by its virtual size', async (t) => {
  const { at, roots } = hostOf(t);
  truncateSync(at('images/base.img'), 8 * 2 ** 40);
  await assert.rejects(openImage('base.img', roots, { maxVirtualBytes: 2 * 2 ** 40 }, soon()), {
    code: 'refused',
    message: /8796093022208 bytes, more than the 2199023255552/,
  });
});

test('image: a signal that is aborted, and a name that is none', async (t) => {
  const { roots } = hostOf(t);
  const reason = new Error('task destroyed');
  const aborted = { signal: AbortSignal.abort(reason) };
  await assert.rejects(openImage('base.img', roots, limit, aborted), { code: 'io', cause: reason });
  await assert.rejects(read('', roots), notFound);
  await assert.rejects(read('a\0b', roots), notFound);
});

test('image: opening reads a few KiB, whatever the size', async (t) => {
  const { at, roots } = hostOf(t);
  truncateSync(at('images/base.img'), 100 * 2 ** 30);
  const readSoFar = (): number =>
    Number(/rchar: (\d+)/.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);
  await read('base.img', roots);
  const before = readSoFar();
  using image = await openImage('base.img', roots, limit, soon());
  assert.ok(image.fd > 0);
  assert.ok(readSoFar() - before < 16384);
});

test('V-59 D7 D41: user data is read by the same rules as images, whatever bytes it has', async (t) => {
  const { at, roots } = hostOf(t);
  const bytes = async (name: string, maxBytes = 1000): Promise<Buffer> =>
    Buffer.from(await readBytes(name, roots, { maxBytes }, soon()));
  const text = '#cloud-config\nname: ü\n';
  writeFileSync(at('alloc/task/user-data'), text);
  assert.equal((await bytes('user-data')).toString(), text);
  assert.equal((await bytes('user-data', 23)).toString(), text);
  await assert.rejects(bytes('user-data', 22), tooLarge);
  const packed = gzipSync(text);
  writeFileSync(at('alloc/task/user-data.gz'), packed);
  assert.deepEqual(await bytes('user-data.gz'), packed);
  writeFileSync(at('alloc/task/blank'), '');
  assert.equal((await bytes('blank')).length, 0);
  await assert.rejects(bytes('/etc/shadow'), notAllowed);
  await assert.rejects(bytes(at('host/secret')), notAllowed);
  symlinkSync('/etc/shadow', at('alloc/task/shadow'));
  await assert.rejects(bytes('shadow'), notAllowed);
  linkSync(at('host/secret'), at('alloc/task/hard'));
  await assert.rejects(bytes('hard'), notAllowed);
  await assert.rejects(bytes('local'), notRegular);
  await assert.rejects(bytes('none'), notFound);
});

test('V-33: the error for a file elsewhere is the same whether it exists or not', async (t) => {
  const { at, roots } = hostOf(t);
  const said = async (path: string): Promise<unknown> =>
    readBytes(path, roots, { maxBytes: 1 }, soon()).catch((error: Error) => ({
      message: error.message.replaceAll(path, 'PATH'),
      cause: error.cause,
    }));
  assert.deepEqual(await said(at('host/secret')), await said(at('host/missing')));
  assert.deepEqual(await said('/etc/passwd'), await said('/etc/no-such-file'));
});
