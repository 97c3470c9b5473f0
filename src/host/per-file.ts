import { statSync } from 'node:fs';

/**
 * What is known of files, programs say: each is asked for once, by whoever comes first, and again only when its file
 * changes. A failure may have been the moment's (a busy host, an aborted caller) and is not kept.
 */
export class PerFile<T> {
  readonly #known = new Map<string, { readonly file: string; readonly answer: Promise<T> }>();

  /** Throws what `ask` throws, and Node's own error when the file is not there. */
  async get(path: string, ask: () => Promise<T>): Promise<T> {
    const { ino, size, mtimeMs } = statSync(path);
    const file = `${ino}:${size}:${mtimeMs}`;
    const former = this.#known.get(path);
    // Whoever asked first may have given up.
    if (former?.file === file) return former.answer.catch(() => this.get(path, ask));
    const answer = ask();
    const entry = { file, answer };
    this.#known.set(path, entry);
    answer.catch(() => {
      if (this.#known.get(path) === entry) this.#known.delete(path);
    });
    return answer;
  }
}
