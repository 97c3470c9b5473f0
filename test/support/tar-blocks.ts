/** A header of a tar archive as it is wished, also a wrong one; its checksum is right. */
export interface TarHeaderFields {
  readonly name?: string;
  readonly type?: string;
  /** As it stands in the header, or a number. */
  readonly size?: number | Buffer;
  /** Any other bytes, by their place. */
  readonly at?: Readonly<Record<number, Buffer | string>>;
}

export function tarHeader(fields: TarHeaderFields): Buffer {
  const { name = 'disk.raw', type = '0', size = 0, at = {} } = fields;
  const block = Buffer.alloc(512);
  block.write(name);
  block.write('0000644\0', 100);
  (typeof size === 'number' ? octal(size) : size).copy(block, 124);
  block.write('00000000000\0', 136);
  block.write(type, 156);
  block.write('ustar  \0', 257, 'latin1');
  for (const [place, bytes] of Object.entries(at)) Buffer.from(bytes).copy(block, Number(place));
  return withChecksum(block);
}

export function withChecksum(block: Buffer): Buffer {
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

export function octal(value: number, length = 12): Buffer {
  return Buffer.from(`${value.toString(8).padStart(length - 1, '0')}\0`);
}

/** The content of a file, filled up to a block. */
export function blocksOf(content: Buffer | string): Buffer {
  const bytes = Buffer.from(content);
  return Buffer.concat([bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}

export const tarEnd = Buffer.alloc(1024);

/** An extended header with its records, and blocks for the content. */
export function pax(records: Readonly<Record<string, string>>): Buffer {
  const text = Object.entries(records)
    .map(([key, value]) => {
      const length = key.length + value.length + 3;
      const digits = `${length + `${length}`.length}`.length;
      return `${length + digits} ${key}=${value}\n`;
    })
    .join('');
  return Buffer.concat([tarHeader({ type: 'x', size: text.length }), blocksOf(text)]);
}
