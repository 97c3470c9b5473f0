import type { Socket } from 'node:net';

const maxBytes = 1024;

/** The end of what a program reports on a stream. */
export class LastText {
  #bytes = Buffer.alloc(0);
  readonly #ended: Promise<void>;

  constructor(socket: Socket | undefined) {
    this.#ended = new Promise((resolve) => {
      if (socket === undefined) return resolve();
      socket.on('data', (chunk: Buffer) => this.add(chunk));
      socket.once('end', resolve).once('close', resolve);
    });
  }

  add(chunk: Uint8Array): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]).subarray(-maxBytes);
  }

  /** As one line, once the stream has ended. What a guest may have sent is in no way harmful to a terminal. */
  async line(): Promise<string> {
    await this.#ended;
    const lines = this.#bytes.toString('latin1').split(/[\r\n]+/);
    const clean = lines.map((line) => line.replaceAll(/[^\x20-\x7e]/g, '?').trim());
    return clean.filter((line) => line !== '').join('; ');
  }
}
