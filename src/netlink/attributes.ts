/**
 * Netlink attributes (struct nlattr, linux/netlink.h): u16 length with its header, u16 type, payload, padding to 4.
 * Numbers are in host order, which is little-endian on every architecture the driver supports.
 */

/** The payload of an attribute: bytes, a 32-bit number, a NUL-terminated text, or nested attributes. */
export type AttributeValue = Uint8Array | number | string | readonly Attribute[];
export type Attribute = readonly [type: number, value: AttributeValue];

const headerBytes = 4;
// The two top bits of a type are flags: nested, and network byte order.
const typeMask = 0x3fff;

export function encodeAttributes(attributes: readonly Attribute[]): Buffer {
  return Buffer.concat(attributes.map(([type, value]) => encodeOne(type, payload(value))));
}

function encodeOne(type: number, bytes: Uint8Array): Buffer {
  const padded = Buffer.alloc(align(headerBytes + bytes.length));
  padded.writeUInt16LE(headerBytes + bytes.length, 0);
  padded.writeUInt16LE(type, 2);
  padded.set(bytes, headerBytes);
  return padded;
}

function payload(value: AttributeValue): Uint8Array {
  if (typeof value === 'string') return Buffer.from(`${value}\0`);
  if (typeof value === 'number') return u32(value);
  return value instanceof Uint8Array ? value : encodeAttributes(value);
}

/** Type → payload; of a type that occurs twice the last one counts. Everything after a truncated attribute is ignored. */
export function decodeAttributes(bytes: Uint8Array): ReadonlyMap<number, Buffer> {
  return new Map(eachAttribute(bytes));
}

/** The payloads of attributes that are a list. */
export function decodeList(bytes: Uint8Array): readonly Buffer[] {
  return [...eachAttribute(bytes)].map(([, payload]) => payload);
}

function* eachAttribute(bytes: Uint8Array): Generator<readonly [type: number, payload: Buffer]> {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + headerBytes <= view.length; ) {
    const length = view.readUInt16LE(at);
    if (length < headerBytes || at + length > view.length) return;
    yield [view.readUInt16LE(at + 2) & typeMask, view.subarray(at + headerBytes, at + length)];
    at += align(length);
  }
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

export function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function readU32(bytes: Buffer | undefined): number | undefined {
  return bytes !== undefined && bytes.length >= 4 ? bytes.readUInt32LE() : undefined;
}

/** Text without its NUL. */
export function readText(bytes: Buffer | undefined): string | undefined {
  if (bytes === undefined) return undefined;
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}

/** A hardware address, `52:54:00:aa:bb:cc`; '' where there is none. */
export function readMac(bytes: Buffer | undefined): string {
  return (bytes?.toString('hex') ?? '').replace(/..(?=.)/g, '$&:');
}

/** Netlink aligns everything to 4 bytes. */
export function align(length: number): number {
  return (length + 3) & ~3;
}
