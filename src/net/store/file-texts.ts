import { readFile, stat } from 'node:fs/promises';
import { errnoOf } from '#host';

/** A file that is replaced twice within one tick of the file system's clock (10 ms at most) may look the same. */
const settledMs = 1000;

interface Known {
  /** Of the file that the text is of: another process replaces it by one of its own. */
  readonly identity: string;
  readonly text: string;
}

/** Texts of small files that are replaced as a whole, read again only where the file is another one. */
export class FileTexts {
  readonly #known = new Map<string, Known>();

  /** Undefined where there is no such file. */
  async read(path: string): Promise<string | undefined> {
    try {
      const { dev, ino, size, mtimeNs, mtimeMs } = await stat(path, { bigint: true });
      const identity = [dev, ino, size, mtimeNs].join(':');
      const known = this.#known.get(path);
      if (known?.identity === identity) return known.text;
      const text = await readFile(path, 'utf8');
      if (Date.now() - Number(mtimeMs) > settledMs) this.#known.set(path, { identity, text });
      else this.#known.delete(path);
      return text;
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
