import xz from 'xz-decompress';
import { ImageError } from '../error.ts';
import type { Bytes } from './byte-reader.ts';

/** The decompressor's one instance is busy: another one would wait for its end. */
let isBusy = false;

/** Whether a stream is being decompressed. */
export function xzIsBusy(): boolean {
  return isBusy;
}

/**
 * Decompresses xz, one stream or several, in WebAssembly. One at a time: ImageError `refused` for xz inside of xz. When
 * the caller ends early, nothing is read of the stream afterwards.
 */
export async function* unxz(bytes: Bytes): AsyncGenerator<Uint8Array, void, undefined> {
  if (isBusy) throw new ImageError('refused', 'it is xz-compressed twice, which is not supported');
  isBusy = true;
  const source = new Source(bytes);
  const output = new xz.XzReadableStream(source.stream);
  const reader = output.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      if (value.length > 0) yield value;
    }
  } catch (cause) {
    throw source.error ?? damaged(cause);
  } finally {
    await source.stop();
    await reader.cancel().catch(() => undefined);
    isBusy = false;
  }
}

/** The compressed bytes as the stream that the decompressor takes, which is stopped at any time. */
class Source {
  readonly stream: ReadableStream<Uint8Array>;
  readonly #bytes: AsyncIterator<Uint8Array, void, undefined>;
  #pulled: Promise<void> = Promise.resolve();
  #stopped = false;
  error: unknown;

  constructor(bytes: Bytes) {
    this.#bytes = bytes[Symbol.asyncIterator]();
    this.stream = new ReadableStream(
      { pull: (controller) => (this.#pulled = this.#pull(controller)) },
      { highWaterMark: 0 },
    );
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#pulled.catch(() => undefined);
    await this.#bytes.return?.();
  }

  async #pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    try {
      const next = this.#stopped ? { done: true, value: undefined } : await this.#bytes.next();
      if (next.value === undefined) controller.close();
      // The decompressor reads it later.
      else controller.enqueue(Buffer.from(next.value));
    } catch (error) {
      this.error = error;
      throw error;
    }
  }
}

export const xzNeedsMemory =
  'its dictionary has more than 64 MiB: compress it with xz -9 or less, or --lzma2=dict=64MiB';

/** By their numbers: xz-embedded, enum xz_ret. */
const reasons: Readonly<Record<string, string>> = {
  4: xzNeedsMemory,
  6: 'it uses a filter or a checksum that is not supported: compress it with xz --check=crc64 and no filter but lzma2',
  8: 'it is not complete',
};

function damaged(cause: unknown): ImageError {
  if (cause instanceof ImageError) return cause;
  const code = /error code (\d+)/.exec(String(cause))?.[1] ?? '';
  const reason = reasons[code] ?? 'it is damaged';
  return new ImageError('refused', `it cannot be decompressed: ${reason} (xz)`, { cause });
}
