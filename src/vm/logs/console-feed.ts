/** What is kept for the listener to come: more than a guest writes while its machine is set up. */
const maxKeptBytes = 256 * 1024;

/** The guest's console as it is relayed, for the one who looks at it. What comes before is kept for that one. */
export class ConsoleFeed {
  #kept: Buffer[] = [];
  #keptBytes = 0;
  #listener: ((bytes: Uint8Array) => void) | undefined;

  /** The bytes are the relay's, and valid during the call. */
  push(bytes: Uint8Array): void {
    if (this.#listener !== undefined) this.#listener(bytes);
    else if (this.#keptBytes + bytes.length <= maxKeptBytes) {
      this.#keptBytes += bytes.length;
      this.#kept.push(Buffer.from(bytes));
    }
  }

  listen(listener: (bytes: Uint8Array) => void): void {
    this.#listener = listener;
    for (const bytes of this.#kept) listener(bytes);
    this.#kept = [];
  }
}
