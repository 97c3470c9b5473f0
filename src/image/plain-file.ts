import { closeLater } from '#host';
import type { Waiting } from '#spec';
import type { ImageRoots } from './allow-list.ts';
import { checkWaiting, ImageError, step } from './error.ts';
import { readAt, writeAt } from './positional.ts';
import { type AllowedFile, openAllowed } from './roots.ts';

const chunkBytes = 1024 * 1024;

/** A file of the allow-list, whatever it contains, open to be copied. */
export class PlainFile implements Disposable {
  readonly #file: AllowedFile;
  readonly #maxBytes: number;
  #open = true;

  private constructor(file: AllowedFile, maxBytes: number) {
    this.#file = file;
    this.#maxBytes = maxBytes;
  }

  /** Throws ImageError for a file that is not allowed, empty or too large. */
  static async open(
    name: string,
    { roots, maxBytes }: { readonly roots: ImageRoots; readonly maxBytes: number },
    waiting: Waiting,
  ): Promise<PlainFile> {
    const opened = await openAllowed(name, roots, waiting);
    const file = new PlainFile(opened, maxBytes);
    const { path, stats } = opened;
    if (stats.size > 0 && stats.size <= maxBytes) return file;
    file[Symbol.dispose]();
    throw new ImageError(
      'refused',
      stats.size === 0 ? `${path} is empty` : `${path} is larger than ${maxBytes} bytes`,
    );
  }

  /** Writes its content to an empty file. Throws ImageError where it has grown beyond the limit. */
  async copyTo(fd: number, { signal }: Waiting): Promise<void> {
    const { path } = this.#file;
    await step(`copying ${path}`, async () => {
      const buffer = new Uint8Array(chunkBytes);
      for (let at = 0; ; ) {
        checkWaiting(`copying ${path}`, signal);
        const chunk = await readAt(this.#file.fd, buffer, at);
        if (chunk.length === 0) return;
        await writeAt(fd, chunk, at);
        at += chunk.length;
        if (at > this.#maxBytes) throw new ImageError('refused', `${path} has grown`);
      }
    });
  }

  [Symbol.dispose](): void {
    // A second time the number may belong to another file.
    if (this.#open) closeLater(this.#file.fd);
    this.#open = false;
  }
}
