import { constants, fsync, type Stats } from 'node:fs';
import { link, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import {
  closeAside,
  closeFd,
  errnoOf,
  lockDescriptor,
  openAside,
  openBeneathAside,
  pathOnly,
  reopenAside,
  statAside,
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
  /** The same for every path of the file, except hard links, which are refused. */
  readonly identity: string;

  private constructor(path: string, directory: number, { dev, ino }: Stats) {
    this.path = path;
    this.#directory = directory;
    this.#name = basename(path);
    this.identity = `file ${dev} ${ino} ${this.#name}`;
  }

  /** `name` is a plain file name. Throws HostError when there is no such directory. */
  static async in(directory: string, name: string): Promise<KeptFile> {
    const fd = await openAside(directory, pathOnly | constants.O_DIRECTORY);
    try {
      return new KeptFile(`${directory}/${name}`, fd, await statAside(fd));
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  /** Opens the file for reading; undefined when it does not exist. Throws VmError for what is no plain file of this name. */
  async open(): Promise<number | undefined> {
    // Nothing is opened before it was looked at: opening has effects on a device.
    const found = await this.#openNamed(this.#name);
    if (found === undefined) return undefined;
    try {
      const stats = await this.#withoutTemporary(found, await statAside(found));
      this.#checkRegular(stats);
      if (stats.nlink !== 1) {
        const text = `${this.path} has ${stats.nlink} names (hard links): it may be any file of the host`;
        throw new VmError('job', text);
      }
      return await reopenAside(found, constants.O_RDONLY);
    } finally {
      closeFd(found);
    }
  }

  /** Creates the file by `fill`, unless another VM has created it meanwhile. Throws what `fill` throws. */
  async create(fill: (fd: number) => Promise<void>, waiting: Waiting): Promise<void> {
    const fd = await this.#newTemporary(waiting);
    if (fd === undefined) return;
    await using opened = new AsyncDisposableStack();
    opened.adopt(fd, closeAside);
    try {
      await fill(fd);
      await sync(fd);
      await link(this.#at(this.#temporary), this.#at(this.#name));
      if (!(await this.#isTemporary(fd))) throw this.#replaced();
    } finally {
      await this.#removeTemporary();
    }
  }

  /** Whether there is anything of this name. */
  async exists(): Promise<boolean> {
    const fd = await this.#openNamed(this.#name);
    if (fd !== undefined) closeFd(fd);
    return fd !== undefined;
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
      await using opened = new AsyncDisposableStack();
      const made = await this.#openNew();
      const fd = made ?? (await this.#openTemporary());
      if (fd === undefined) continue;
      opened.adopt(fd, closeAside);
      await this.#lock(fd, waiting);
      const isNamed = await this.#isTemporary(fd);
      if (isNamed && fd === made && !(await this.exists())) {
        opened.move();
        return fd;
      }
      if (isNamed) await this.#removeTemporary();
      if (await this.exists()) return undefined;
    }
    throw this.#replaced();
  }

  async #openNew(): Promise<number | undefined> {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    try {
      return await openBeneathAside(this.#directory, this.#temporary, flags);
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') return undefined;
      throw error;
    }
  }

  async #openTemporary(): Promise<number | undefined> {
    const found = await this.#openNamed(this.#temporary);
    if (found === undefined) return undefined;
    try {
      this.#checkRegular(await statAside(found));
      return await reopenAside(found, constants.O_RDWR);
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
  async #isTemporary(fd: number): Promise<boolean> {
    const named = await this.#openNamed(this.#temporary);
    if (named === undefined) return false;
    try {
      return sameFile(await statAside(named), await statAside(fd));
    } finally {
      closeFd(named);
    }
  }

  #replaced(): VmError {
    return new VmError('host', `${this.path} was replaced while it was being created`);
  }

  #checkRegular(stats: Stats): void {
    if (!stats.isFile()) throw new VmError('job', `${this.path} is not a regular file`);
  }

  /** A creation that was killed at its end leaves both names. */
  async #withoutTemporary(fd: number, stats: Stats): Promise<Stats> {
    if (stats.nlink !== 2) return stats;
    if (await this.#isTemporary(fd)) await this.#removeTemporary();
    return await statAside(fd);
  }

  async #removeTemporary(): Promise<void> {
    try {
      await unlink(this.#at(this.#temporary));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }

  /** Refers to it without opening it. */
  async #openNamed(name: string): Promise<number | undefined> {
    try {
      return await openBeneathAside(this.#directory, name, pathOnly | constants.O_NOFOLLOW);
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
