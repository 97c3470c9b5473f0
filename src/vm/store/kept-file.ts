import { constants, fstatSync, fsync, linkSync, type Stats, unlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import {
  closeFd,
  errnoOf,
  lockDescriptor,
  openBeneath,
  openPath,
  pathOnly,
  reopen,
  within,
} from '#host';
import type { Waiting } from '#spec';
import { VmError } from '../error.ts';

const sync = promisify(fsync);
const creationMs = 30_000;
/** Of other creations that come between, and of another task that goes on replacing the file. */
const maxTries = 16;

/**
 * A file in a directory that other tasks, and other hosts, may write to as well: it is never reached through a link,
 * and it appears with its whole content or not at all.
 */
export class KeptFile implements Disposable {
  readonly #directory: number;
  readonly #name: string;
  /** For messages. */
  readonly path: string;

  /** `name` is a plain file name. Throws HostError when there is no such directory. */
  constructor(directory: string, name: string) {
    this.#directory = openPath(directory, pathOnly | constants.O_DIRECTORY);
    this.#name = name;
    this.path = `${directory}/${name}`;
  }

  /** Opens the file for reading; undefined when it does not exist. Throws VmError for what is no plain file of this name. */
  open(): number | undefined {
    // Nothing is opened before it was looked at: opening has effects on a device.
    const found = this.#openNamed(this.#name, pathOnly);
    if (found === undefined) return undefined;
    try {
      const stats = this.#withoutTemporary(found, fstatSync(found));
      this.#checkRegular(stats);
      if (stats.nlink !== 1) {
        const text = `${this.path} has ${stats.nlink} names (hard links): it may be any file of the host`;
        throw new VmError('job', text);
      }
      return reopen(found, constants.O_RDONLY);
    } finally {
      closeFd(found);
    }
  }

  /** Creates the file by `fill`, unless another VM has created it meanwhile. Throws what `fill` throws. */
  async create(fill: (fd: number) => Promise<void>, waiting: Waiting): Promise<void> {
    const fd = await this.#newTemporary(waiting);
    if (fd === undefined) return;
    try {
      await fill(fd);
      await sync(fd);
      linkSync(this.#at(this.#temporary), this.#at(this.#name));
      if (!this.#isTemporary(fd)) throw this.#replaced();
    } finally {
      this.#removeTemporary();
      closeFd(fd);
    }
  }

  /** The same for every path of the file, except hard links, which are refused. */
  get identity(): string {
    const { dev, ino } = fstatSync(this.#directory);
    return `file ${dev} ${ino} ${this.#name}`;
  }

  /** Whether there is anything of this name. */
  get exists(): boolean {
    return this.#exists();
  }

  /** Where the file is until it is complete. */
  get temporaryPath(): string {
    return join(dirname(this.path), this.#temporary);
  }

  get #temporary(): string {
    return `.${this.#name}.new`;
  }

  /**
   * A new file of the temporary name, locked; undefined once the file exists. What has the name already is of a creation
   * that goes on or was killed, or of another task, which may have it open: it is removed, and never written to.
   */
  async #newTemporary(waiting: Waiting): Promise<number | undefined> {
    for (let tries = 0; tries < maxTries; tries += 1) {
      using opened = new DisposableStack();
      const made = this.#openNew();
      const fd = made ?? this.#openTemporary();
      if (fd === undefined) continue;
      opened.adopt(fd, closeFd);
      await this.#lock(fd, waiting);
      const isNamed = this.#isTemporary(fd);
      if (isNamed && fd === made && !this.#exists()) {
        opened.move();
        return fd;
      }
      if (isNamed) this.#removeTemporary();
      if (this.#exists()) return undefined;
    }
    throw this.#replaced();
  }

  #openNew(): number | undefined {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    try {
      return openBeneath(this.#directory, this.#temporary, flags);
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') return undefined;
      throw error;
    }
  }

  #openTemporary(): number | undefined {
    const found = this.#openNamed(this.#temporary, pathOnly);
    if (found === undefined) return undefined;
    try {
      this.#checkRegular(fstatSync(found));
      return reopen(found, constants.O_RDWR);
    } finally {
      closeFd(found);
    }
  }

  async #lock(fd: number, waiting: Waiting): Promise<void> {
    using limited = within(creationMs, waiting);
    try {
      await lockDescriptor(fd, this.path, limited);
    } catch (cause) {
      waiting.signal.throwIfAborted();
      const text = `${this.path} is being created for another VM`;
      throw new VmError('host', text, { cause, recoverable: true });
    }
  }

  /** Other tasks may have put another file in its place. */
  #isTemporary(fd: number): boolean {
    const named = this.#openNamed(this.#temporary, pathOnly);
    if (named === undefined) return false;
    const same = sameFile(fstatSync(named), fstatSync(fd));
    closeFd(named);
    return same;
  }

  #replaced(): VmError {
    return new VmError('host', `${this.path} was replaced while it was being created`);
  }

  #checkRegular(stats: Stats): void {
    if (!stats.isFile()) throw new VmError('job', `${this.path} is not a regular file`);
  }

  #exists(): boolean {
    const fd = this.#openNamed(this.#name, pathOnly);
    if (fd !== undefined) closeFd(fd);
    return fd !== undefined;
  }

  /** A creation that was killed at its end leaves both names. */
  #withoutTemporary(fd: number, stats: Stats): Stats {
    if (stats.nlink !== 2) return stats;
    if (this.#isTemporary(fd)) this.#removeTemporary();
    return fstatSync(fd);
  }

  #removeTemporary(): void {
    try {
      unlinkSync(this.#at(this.#temporary));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }

  #openNamed(name: string, flags: number): number | undefined {
    try {
      return openBeneath(this.#directory, name, flags | constants.O_NOFOLLOW);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  #at(name: string): string {
    return `/proc/self/fd/${this.#directory}/${name}`;
  }

  [Symbol.dispose](): void {
    closeFd(this.#directory);
  }
}

function sameFile(a: Stats, b: Stats): boolean {
  return a.dev === b.dev && a.ino === b.ino;
}
