/** A regular expression over bytes, as a tree. */
export type PatternNode =
  | { readonly kind: 'byte'; readonly set: ByteSet }
  | { readonly kind: 'line-start' | 'line-end' }
  | { readonly kind: 'sequence' | 'either'; readonly of: readonly PatternNode[] }
  /** Without a maximum any number of times. */
  | {
      readonly kind: 'repeat';
      readonly of: PatternNode;
      readonly min: number;
      readonly max?: number;
    };

export type ByteSet = readonly number[];

const maxTextBytes = 1000;
const maxRepeat = 100;
const maxDepth = 50;

const allBytes: ByteSet = Array.from({ length: 256 }, (_, byte) => byte);
const where = (is: RegExp): ByteSet =>
  allBytes.filter((byte) => is.test(String.fromCharCode(byte)));
const without = (set: ByteSet): ByteSet => allBytes.filter((byte) => !set.includes(byte));
const lineFeed = '\n'.charCodeAt(0);
const anyByte = without([lineFeed]);

/** What a letter after a backslash stands for. */
const escapes: Readonly<Record<string, ByteSet>> = {
  d: where(/[0-9]/),
  D: without(where(/[0-9]/)),
  w: where(/[0-9A-Za-z_]/),
  W: without(where(/[0-9A-Za-z_]/)),
  s: where(/[\t\n\f\r ]/),
  S: without(where(/[\t\n\f\r ]/)),
  t: where(/\t/),
  n: where(/\n/),
  r: where(/\r/),
  f: where(/\f/),
};

/**
 * Reads the part of RE2's syntax that needs no more than one look at each byte: `.`, classes, `\d \w \s` and their
 * opposites, groups, `|`, `* + ? {n,m}`, `^ $`, and `(?i)` at the beginning. Throws SyntaxError with what is wrong.
 */
export function parsePattern(text: string): PatternNode {
  if (Buffer.byteLength(text) > maxTextBytes) {
    throw new SyntaxError(`is longer than ${maxTextBytes} bytes`);
  }
  const ignoreCase = text.startsWith('(?i)');
  return new Reader(ignoreCase ? text.slice(4) : text, ignoreCase).read();
}

class Reader {
  readonly #chars: readonly string[];
  readonly #ignoreCase: boolean;
  #at = 0;
  #depth = 0;

  constructor(text: string, ignoreCase: boolean) {
    this.#chars = [...text];
    this.#ignoreCase = ignoreCase;
  }

  read(): PatternNode {
    const node = this.#either();
    if (this.#at < this.#chars.length) throw new SyntaxError('has a ")" without its "("');
    return node;
  }

  #either(): PatternNode {
    const of = [this.#sequence()];
    while (this.#take('|')) of.push(this.#sequence());
    return { kind: 'either', of };
  }

  #sequence(): PatternNode {
    const of: PatternNode[] = [];
    for (let next = this.#next; next !== undefined && !'|)'.includes(next); next = this.#next) {
      of.push(this.#repeated(this.#atom()));
    }
    return { kind: 'sequence', of };
  }

  #repeated(of: PatternNode): PatternNode {
    const bounds = this.#bounds();
    if (bounds === undefined) return of;
    // Greedy or not makes no difference to whether a line matches.
    this.#take('?');
    if (this.#bounds() !== undefined) throw new SyntaxError('has a repetition of a repetition');
    return { kind: 'repeat', of, ...bounds };
  }

  #bounds(): { readonly min: number; readonly max?: number } | undefined {
    if (this.#take('*')) return { min: 0 };
    if (this.#take('+')) return { min: 1 };
    if (this.#take('?')) return { min: 0, max: 1 };
    const rest = this.#chars.slice(this.#at, this.#at + 10).join('');
    const [whole, low, comma, high] = /^\{(\d{1,3})(,?)(\d{0,3})\}/.exec(rest) ?? [];
    if (whole === undefined) return undefined;
    this.#at += whole.length;
    const min = Number(low);
    const max = comma === '' ? min : Number(high || maxRepeat);
    if (max > maxRepeat || min > max) {
      throw new SyntaxError(`has ${whole}, and the maximum of a repetition is ${maxRepeat}`);
    }
    return comma !== '' && high === '' ? { min } : { min, max };
  }

  #atom(): PatternNode {
    const char = this.#step();
    switch (char) {
      case '^':
        return { kind: 'line-start' };
      case '$':
        return { kind: 'line-end' };
      case '.':
        return { kind: 'byte', set: anyByte };
      case '(':
        return this.#group();
      case '[':
        return { kind: 'byte', set: this.#cased(this.#class()) };
      case '\\':
        return { kind: 'byte', set: this.#cased(this.#escape()) };
      case '*':
      case '+':
      case '?':
        throw new SyntaxError(`has a "${char}" that repeats nothing`);
      default:
        return this.#literal(char);
    }
  }

  #group(): PatternNode {
    if (this.#take('?') && !this.#take(':')) {
      throw new SyntaxError(
        'has a group with "(?"; only "(?:" is supported, and "(?i)" at the beginning',
      );
    }
    this.#depth += 1;
    if (this.#depth > maxDepth) throw new SyntaxError('has too many groups inside each other');
    const node = this.#either();
    this.#depth -= 1;
    if (!this.#take(')')) throw new SyntaxError('has a "(" without its ")"');
    return node;
  }

  /** A character of more than one byte is a sequence of these. */
  #literal(char: string): PatternNode {
    const bytes = [...Buffer.from(char)].map(
      (byte) => ({ kind: 'byte', set: this.#cased([byte]) }) as const,
    );
    return { kind: 'sequence', of: bytes };
  }

  #class(): ByteSet {
    const isOpposite = this.#take('^');
    const set = new Set<number>();
    for (let isFirst = true; isFirst || !this.#take(']'); isFirst = false) {
      const from = this.#member();
      const [low] = from;
      const isRange = from.length === 1 && this.#next === '-' && this.#chars[this.#at + 1] !== ']';
      if (isRange) this.#step();
      const high = isRange ? this.#member().at(-1) : undefined;
      if (low === undefined || high === undefined) for (const byte of from) set.add(byte);
      else for (let byte = low; byte <= high; byte += 1) set.add(byte);
    }
    const own = this.#cased([...set]);
    return isOpposite ? without([...own, lineFeed]) : own;
  }

  #member(): ByteSet {
    const char = this.#step();
    if (char === '\\') return this.#escape();
    if (char === '[' && this.#next === ':')
      throw new SyntaxError('has a class such as "[:alpha:]", which is not supported');
    const [byte = 0, ...more] = Buffer.from(char);
    if (more.length > 0)
      throw new SyntaxError(`has "${char}" in a class, where only ASCII is supported`);
    return [byte];
  }

  #escape(): ByteSet {
    const char = this.#step();
    const set = Object.hasOwn(escapes, char) ? escapes[char] : undefined;
    if (set !== undefined) return set;
    // Of a letter or digit the meaning would be another one than itself: \b, \1, \p, \x.
    if (!/^[!-/:-@[-`{-~ ]$/.test(char))
      throw new SyntaxError(`has "\\${char}", which is not supported`);
    return [char.charCodeAt(0)];
  }

  #cased(set: ByteSet): ByteSet {
    if (!this.#ignoreCase) return set;
    const letters = set
      .map((byte) => String.fromCharCode(byte))
      .filter((char) => /[A-Za-z]/.test(char));
    const both = letters.flatMap((char) => [char.toLowerCase(), char.toUpperCase()]);
    return [...new Set([...set, ...both.map((char) => char.charCodeAt(0))])];
  }

  get #next(): string | undefined {
    return this.#chars[this.#at];
  }

  #take(char: string): boolean {
    if (this.#next !== char) return false;
    this.#at += 1;
    return true;
  }

  #step(): string {
    const char = this.#next;
    if (char === undefined) throw new SyntaxError('ends in the middle of something');
    this.#at += 1;
    return char;
  }
}
