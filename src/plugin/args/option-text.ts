import { Refusal } from './wish.ts';

/** Far more than any option has; most of all the forwarded ports of a network. */
const maxPairs = 1024;
const maxJsonLength = 64 * 1024;
const maxDepth = 16;

interface Pair {
  readonly key: string;
  readonly value: string;
}

/** `key=value` pairs of one option, as QEMU reads them. */
export class OptionText {
  #pairs: readonly Pair[];

  /**
   * Reads `first,key=value,flag`: a comma ends a value, two are one comma of it. `implied` is the key of a first value
   * without one; any other word without `=` is a flag, which is on. The same as a JSON object is read as well. Throws Refusal
   * where there are too many.
   */
  constructor(text: string, implied?: string) {
    const object = text.startsWith('{') ? parseObject(text) : undefined;
    const pairs = object === undefined ? pairsIn(text, implied) : membersOf(object);
    this.#pairs = [...pairs.take(maxPairs + 1)];
    if (this.#pairs.length > maxPairs) throw new Refusal(`has more than ${maxPairs} keys`);
  }

  /** The last value of a key, which wins; each is taken once. */
  take(key: string): string | undefined {
    return this.takeAll(key).at(-1);
  }

  /** Every value of a key, in their order. */
  takeAll(key: string): readonly string[] {
    const values = this.#pairs.filter((pair) => pair.key === key).map(({ value }) => value);
    this.ignore(key);
    return values;
  }

  /** Whether a switch is on; undefined where it is not there. */
  takeSwitch(key: string): boolean | undefined {
    const value = this.take(key);
    return value === undefined ? undefined : /^(on|yes|true|y|1)$/.test(value);
  }

  ignore(...keys: readonly string[]): void {
    this.#pairs = this.#pairs.filter(({ key }) => !keys.includes(key));
  }

  /** The keys that were not taken. */
  get rest(): readonly string[] {
    return this.#pairs.map(({ key }) => key);
  }
}

function parseObject(text: string): object | undefined {
  if (text.length > maxJsonLength)
    throw new Refusal(`is JSON of more than ${maxJsonLength} characters`);
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Members of a member have both names, with a dot between them. */
function* membersOf(object: object, prefix = '', depth = 1): Generator<Pair> {
  if (depth > maxDepth) throw new Refusal(`nests deeper than ${maxDepth} levels`);
  for (const [name, value] of Object.entries<unknown>({ ...object })) {
    const key = `${prefix}${name}`;
    if (typeof value === 'object' && value !== null) yield* membersOf(value, `${key}.`, depth + 1);
    else yield { key, value: value === true ? 'on' : value === false ? 'off' : String(value) };
  }
}

function* pairsIn(text: string, implied: string | undefined): Generator<Pair> {
  for (let at = 0; at < text.length; ) {
    const { key, from } = keyAt(text, at, at === 0 ? implied : undefined);
    const { value, end } =
      from === undefined ? { value: 'on', end: at + key.length } : valueAt(text, from);
    yield { key, value };
    at = end + 1;
  }
}

/** The key that begins here, and where its value begins; without one it is a flag. */
function keyAt(
  text: string,
  at: number,
  implied: string | undefined,
): { readonly key: string; readonly from: number | undefined } {
  const [key = ''] = /^[^=,]*/.exec(text.slice(at)) ?? [];
  if (text[at + key.length] === '=') return { key, from: at + key.length + 1 };
  return implied === undefined ? { key, from: undefined } : { key: implied, from: at };
}

/** The value that begins here, and the index of the comma that ends it. */
function valueAt(text: string, from: number): { readonly value: string; readonly end: number } {
  let value = '';
  let at = from;
  for (; at < text.length; at += 1) {
    if (text[at] === ',') {
      if (text[at + 1] !== ',') break;
      at += 1;
    }
    value += text[at];
  }
  return { value, end: at };
}
