import { readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { errnoOf } from '#host';

/** A file that is replaced twice within one tick of the file system's clock (10 ms at most) may look the same. */
const settledMs = 1000;

interface Known<T> {
  /** Of the file that the value is of: another process replaces it by one of its own. */
  readonly identity: string;
  readonly value: T;
}

/** What small files mean that are replaced as a whole, read and decoded again only where the file is another one. */
export class DecodedFiles<T> {
  readonly #decode: (text: string, name: string) => T;
  readonly #known = new Map<string, Known<T>>();

  constructor(decode: (text: string, name: string) => T) {
    this.#decode = decode;
  }

  /** Undefined where there is no such file. */
  async read(path: string): Promise<T | undefined> {
    try {
      const { dev, ino, size, mtimeNs, mtimeMs } = await stat(path, { bigint: true });
      const identity = [dev, ino, size, mtimeNs].join(':');
      const known = this.#known.get(path);
      if (known?.identity === identity) return known.value;
      const value = this.#decode(await readFile(path, 'utf8'), basename(path));
      if (Date.now() - Number(mtimeMs) > settledMs) this.#known.set(path, { identity, value });
      else this.#known.delete(path);
      return value;
    } catch (error) {
      this.#known.delete(path);
      if (isMissing(error)) return undefined;
      throw error;
    }
  }
}

export function isMissing(error: unknown): boolean {
  return /^(ENOENT|ENOTDIR)$/.test(errnoOf(error) ?? '');
}
