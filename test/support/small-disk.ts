import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  constants,
  mkdirSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { closeFd, openPath } from '#host';
import { must as mustCall } from '../../src/host/native/libc.ts';
import { must } from './guest.ts';

/** EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN, and their flag for a log that is not written either. */
const shutDown = 0x8004587d;
const withoutLog = 2;

/** How small a file system of each kind can be, and what makes it. */
const kinds = {
  tmpfs: { mib: 16, make: [] },
  'ext4 with blocks of 1 KiB': { mib: 16, make: ['mkfs.ext4', '-q', '-b', '1024'] },
  'ext4 with blocks of 4 KiB': { mib: 16, make: ['mkfs.ext4', '-q', '-b', '4096'] },
  XFS: { mib: 300, make: ['mkfs.xfs', '-q'] },
  Btrfs: { mib: 128, make: ['mkfs.btrfs', '-q'] },
} as const;

export type DiskKind = keyof typeof kinds;
export const diskKinds = Object.keys(kinds) as readonly DiskKind[];

/** A file system of its own at `path`, for a mount namespace that ends with the test. */
export class SmallDisk implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async mount(kind: DiskKind, root: string): Promise<SmallDisk> {
    const { mib, make } = kinds[kind];
    const path = join(root, 'disk');
    mkdirSync(path);
    const [program, ...args] = make;
    if (program === undefined) {
      await must('mount', '-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', path);
    } else {
      const image = join(root, 'disk.img');
      writeFileSync(image, '');
      truncateSync(image, mib * 2 ** 20);
      await must(program, ...args, image);
      await must('mount', '-o', 'loop', image, path);
    }
    return new SmallDisk(path);
  }

  /** Fills it to the last block with this file. */
  fill(file: string): void {
    for (let bytes = 2 ** 29; bytes >= 4096; bytes /= 2) {
      try {
        const run = { stdio: 'ignore' } as const;
        for (;;)
          execFileSync(
            'fallocate',
            ['-o', String(statSync(file).size), '-l', String(bytes), file],
            run,
          );
      } catch {
        // Half of it may fit.
      }
    }
    const rest = Buffer.alloc(1024, 1);
    try {
      for (;;) appendFileSync(`${file}.rest`, rest);
    } catch {
      // Now there is no room for a byte.
    }
  }

  /** What was not synced, and the file system has not written by itself, is lost. ext4 and XFS only. */
  async cutPower(): Promise<void> {
    const fd = openPath(this.path, constants.O_RDONLY);
    const flags = Buffer.alloc(4);
    flags.writeUInt32LE(withoutLog);
    mustCall('shutting the file system down', 'ioctlBytes', fd, shutDown, flags);
    closeFd(fd);
    await must('umount', this.path);
    await must('mount', '-o', 'loop', `${this.path}.img`, this.path);
  }

  async setReadOnly(on: boolean): Promise<void> {
    await must('mount', '-o', `remount,${on ? 'ro' : 'rw'}`, this.path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await must('umount', this.path);
  }
}
