import { decode, ExtData } from '@msgpack/msgpack';

/** A configuration value as Nomad sends it: 64-bit integers arrive as bigint, odd numbers as decimal text. */
export type CtyValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly CtyValue[]
  | { readonly [key: string]: CtyValue };

export class CtyError extends Error {
  override readonly name = 'CtyError';
}

/** Deep enough for any schema, shallow enough for any stack. */
const maxDepth = 64;

/**
 * Decodes a configuration value, go-cty's form as well as go-msgpack's. No bytes at all are null.
 * Throws CtyError for anything that is not one whole msgpack value of these kinds.
 */
export function decodeCty(bytes: Uint8Array): CtyValue {
  if (bytes.length === 0) return null;
  let value: unknown;
  try {
    value = decode(bytes, { useBigInt64: true });
  } catch (cause) {
    throw new CtyError('not a msgpack value', { cause });
  }
  return plain(value, 0);
}

/**
 * A number in any of its forms: integer, 64-bit integer, float, or decimal text (go-cty's form of 0.1 and of 1e30).
 * undefined when it is none. Integers beyond 2^53 lose their last digits.
 */
export function toNumber(value: CtyValue): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  if (typeof value === 'bigint') return Number(value);
  if (typeof value !== 'string') return undefined;
  // Digits are matched in one way only: two ways to part a run of them take quadratic time.
  if (!/^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/.test(value)) return undefined;
  const number = Number(value);
  return Number.isFinite(number) ? number : undefined;
}

export function isMap(value: CtyValue): value is { readonly [key: string]: CtyValue } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function isList(value: CtyValue): value is readonly CtyValue[] {
  return Array.isArray(value);
}

function plain(value: unknown, depth: number): CtyValue {
  if (depth > maxDepth) throw new CtyError(`nested deeper than ${maxDepth}`);
  switch (typeof value) {
    case 'boolean':
    case 'number':
    case 'bigint':
    case 'string':
      return value;
    case 'undefined':
      return null;
    case 'object':
      return plainObject(value, depth + 1);
    default:
      throw new CtyError(`a ${typeof value} is not a configuration value`);
  }
}

function plainObject(value: object | null, depth: number): CtyValue {
  if (value === null) return null;
  if (Array.isArray(value)) return value.map((item) => plain(item, depth));
  // go-msgpack may write a Go []byte; the only text in a configuration is UTF-8.
  if (value instanceof Uint8Array) return new TextDecoder().decode(value);
  if (value instanceof ExtData) {
    throw new CtyError(
      value.type === 0 || value.type === 12
        ? 'holds a value that is not known yet'
        : `holds a msgpack extension of type ${value.type}`,
    );
  }
  if (Object.getPrototypeOf(value) !== Object.prototype) {
    throw new CtyError(`holds a ${value.constructor.name}`);
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item, depth)]));
}
