import { statSync } from 'node:fs';
import type { Waiting } from '#spec';
import { SharedAnswers } from './shared-answers.ts';

/**
 * Caches one answer per file, such as a program's `--version`; the query is repeated when inode, size or mtime change.
 * Otherwise as SharedAnswers.
 */
export class PerFile<T> {
  readonly #answers = new SharedAnswers<T>();

  /** Throws the errors of `query`, the signal's reason, and Node's own error when the file is missing. */
  async get(path: string, query: (waiting: Waiting) => Promise<T>, waiting: Waiting): Promise<T> {
    const { ino, size, mtimeMs } = statSync(path);
    return await this.#answers.get(
      { key: path, state: `${ino}:${size}:${mtimeMs}` },
      query,
      waiting,
    );
  }
}
