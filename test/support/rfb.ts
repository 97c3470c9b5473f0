import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const securityNone = 1;
const securityVnc = 2;
const rawEncoding = 0;

/** Where a VNC server listens. */
export type RfbPlace = { readonly path: string } | { readonly host: string; readonly port: number };

/** The guest's screen as a viewer gets it, 4 bytes for a pixel. */
export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly pixels: Buffer;
}

/** A viewer of a VNC server (RFB 3.8, RFC 6143): it logs in, and asks for the whole screen. */
export class RfbViewer implements Disposable {
  readonly #socket: Socket;
  readonly #reader: RfbReader;
  readonly width: number;
  readonly height: number;

  /** Throws what the server says when it does not let the viewer in. */
  static async connect(
    place: RfbPlace,
    { password, signal }: { readonly password?: string; readonly signal: AbortSignal },
  ): Promise<RfbViewer> {
    const socket = connect(place);
    const reader = new RfbReader(socket, signal);
    try {
      await once(socket, 'connect', { signal });
      await logIn(reader, socket, password);
      socket.write(Buffer.from([1])); // others may look on
      const start = await reader.take(24);
      await reader.take(start.readUInt32BE(20));
      return new RfbViewer(reader, socket, start);
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  private constructor(reader: RfbReader, socket: Socket, start: Buffer) {
    this.#reader = reader;
    this.#socket = socket;
    this.width = start.readUInt16BE(0);
    this.height = start.readUInt16BE(2);
  }

  /** The next update; what of the screen is not in it, while the guest changes its size, is zero. */
  async frame(): Promise<Frame> {
    const { width, height } = this;
    const encodings = Buffer.from([2, 0, 0, 1, 0, 0, 0, rawEncoding]);
    const request = Buffer.from([
      3,
      0,
      0,
      0,
      0,
      0,
      width >> 8,
      width & 255,
      height >> 8,
      height & 255,
    ]);
    this.#socket.write(Buffer.concat([encodings, request]));
    const pixels = Buffer.alloc(width * height * 4);
    const head = await this.#reader.take(4);
    assert.equal(head[0], 0, 'an update of the screen');
    for (let left = head.readUInt16BE(2); left > 0; left -= 1) await this.#rectangle(pixels);
    return { width, height, pixels };
  }

  async #rectangle(pixels: Buffer): Promise<void> {
    const head = await this.#reader.take(12);
    const [x, y, wide, high] = [0, 2, 4, 6].map((at) => head.readUInt16BE(at));
    assert.ok(x !== undefined && y !== undefined && wide !== undefined && high !== undefined);
    assert.equal(head.readInt32BE(8), rawEncoding);
    const content = await this.#reader.take(wide * high * 4);
    for (let row = 0; row < high; row += 1) {
      const to = ((y + row) * this.width + x) * 4;
      content.copy(pixels, to, row * wide * 4, (row + 1) * wide * 4);
    }
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

/** How many different pixels there are. */
export function colours({ pixels }: Frame): number {
  const found = new Set<number>();
  for (let at = 0; at < pixels.length; at += 4) found.add(pixels.readUInt32LE(at));
  return found.size;
}

async function logIn(reader: RfbReader, socket: Socket, password?: string): Promise<void> {
  assert.equal(String(await reader.take(12)), 'RFB 003.008\n');
  socket.write('RFB 003.008\n');
  const [count = 0] = await reader.take(1);
  const offered = await reader.take(count);
  const wanted = password === undefined ? securityNone : securityVnc;
  assert.ok(offered.includes(wanted), `the server offers the ways ${[...offered]}`);
  socket.write(Buffer.from([wanted]));
  if (password !== undefined) socket.write(response(await reader.take(16), password));
  if ((await reader.take(4)).readUInt32BE() === 0) return;
  const length = (await reader.take(4)).readUInt32BE();
  throw new Error(`refused: ${await reader.take(length)}`);
}

/** DES with the password as the key, the bits of each of its bytes in reverse; three times the same key is DES. */
function response(challenge: Buffer, password: string): Buffer {
  const key = Buffer.alloc(8);
  Buffer.from(password).copy(key);
  const mirrored = key.map((byte) =>
    [0, 1, 2, 3, 4, 5, 6, 7].reduce((sum, bit) => sum | (((byte >> bit) & 1) << (7 - bit)), 0),
  );
  const cipher = createCipheriv(
    'des-ede3-ecb',
    Buffer.concat([mirrored, mirrored, mirrored]),
    null,
  );
  return cipher.setAutoPadding(false).update(challenge);
}

class RfbReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #bytes: Buffer = Buffer.alloc(0);

  constructor(socket: Socket, signal: AbortSignal) {
    signal.addEventListener('abort', () => socket.destroy(new Error('no answer in time')));
    socket.on('error', () => {});
    this.#chunks = socket[Symbol.asyncIterator]();
  }

  async take(count: number): Promise<Buffer> {
    const parts: Buffer[] = [this.#bytes];
    for (let have = this.#bytes.length; have < count; ) {
      const { value, done } = await this.#chunks.next();
      if (done === true) throw new Error('the server closed the connection');
      parts.push(value);
      have += value.length;
    }
    const all = Buffer.concat(parts);
    this.#bytes = all.subarray(count);
    return all.subarray(0, count);
  }
}
