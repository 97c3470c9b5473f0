import { closeSync, constants, mkdtempSync, openSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { unmount } from '#host';
import { must } from '../../src/host/native/libc.ts';

/** A file system that answers nothing, as one of a server that is gone: FUSE whose requests nobody reads. */
export function silentMount(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'nq-silent-'));
  const fuse = openSync('/dev/fuse', constants.O_RDWR);
  const options = `fd=${fuse},rootmode=40000,user_id=0,group_id=0`;
  must('mounting FUSE', 'mount', 'silent', path, 'fuse', 0, options);
  t.after(() => {
    // Who still waits for an answer gets an error.
    closeSync(fuse);
    unmount(path);
    rmdirSync(path);
  });
  return path;
}
