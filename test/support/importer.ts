import { dirname } from 'node:path';
import { openAllowed } from '../../src/image/roots.ts';
import { ImageStore } from '../../src/image/store/image-store.ts';
import type { ImportRequest } from '../../src/image/store/import-image.ts';
import { findProgram } from './programs.ts';

/**
 * Run as a program: obtains the image at `path` from the store at `dir` for the VM `lease`, and prints the path of the
 * stored one. It begins when its standard input ends, so that several can begin at once.
 */
const [, , dir = '', path = '', lease = '', format = '', uid = '0'] = process.argv;

for await (const _ of process.stdin) {
  // Wait for its end.
}
const silent = (): void => {};
const log = { trace: silent, debug: silent, info: silent, warn: silent, error: silent };
const store = new ImageStore({ dir, maxBytes: 2 ** 40, log });
const waiting = { signal: AbortSignal.timeout(60_000) };
const roots = { trusted: [dirname(path)], task: [], relativeTo: [] };
const file = await openAllowed(path, roots, waiting);
const converter = {
  qemuImg: findProgram('qemu-img'),
  prlimit: findProgram('prlimit'),
  uid: Number(uid),
  mark: `importer-${process.pid}`,
};
const request: ImportRequest = {
  file,
  format: format === 'raw' || format === 'vmdk' ? format : undefined,
  maxVirtualBytes: 2 ** 40,
  converter,
};
let imported = 0;
const image = await store.obtain(
  request,
  { lease, onProgress: ({ step }) => (imported += step === 'checking' ? 0 : 1) },
  waiting,
);
console.log(JSON.stringify({ path: image.path, imported }));
