import { statSync } from 'node:fs';

/**
 * Caches one answer per file, such as a program's `--version`. Concurrent callers share the query; it is repeated when
 * inode, size or mtime change. A failure may be temporary (a busy host, an aborted caller) and is not cached.
 */
export class PerFile<T> {
  readonly #known = new Map<string, { readonly file: string; readonly answer: Promise<T> }>();

  /** Throws the errors of `query`, and Node's own error when the file is missing. */
  async get(path: string, query: () => Promise<T>): Promise<T> {
    const { ino, size, mtimeMs } = statSync(path);
    const file = `${ino}:${size}:${mtimeMs}`;
    const former = this.#known.get(path);
    // The first caller may have cancelled the query.
    if (former?.file === file) return former.answer.catch(() => this.get(path, query));
    const answer = query();
    const entry = { file, answer };
    this.#known.set(path, entry);
    answer.catch(() => {
      if (this.#known.get(path) === entry) this.#known.delete(path);
    });
    return answer;
  }
}
