/** One attribute or block of an HCL file, with its line. Values stay text. */
export interface HclEntry {
  readonly name: string;
  readonly labels: readonly string[];
  readonly line: number;
  /** Of an attribute, as it was written. */
  readonly value: string | undefined;
  /** Of a block. */
  readonly body: readonly HclEntry[];
}

/** Reads as much of HCL as job files are written in. Throws with the line where it does not understand. */
export function parseHcl(text: string): readonly HclEntry[] {
  const reader = new Reader(text.split('\n'));
  const entries = reader.entries();
  if (!reader.atEnd) throw new Error(`line ${reader.line}: a closing brace too many`);
  return entries;
}

class Reader {
  readonly #lines: readonly string[];
  #next = 0;

  constructor(lines: readonly string[]) {
    this.#lines = lines;
  }

  get line(): number {
    return this.#next;
  }

  get atEnd(): boolean {
    return this.#next >= this.#lines.length;
  }

  /** Up to the end or to a closing brace, which is consumed. */
  entries(): readonly HclEntry[] {
    const found: HclEntry[] = [];
    for (;;) {
      const text = this.#take();
      if (text === undefined || text === '}') return found;
      if (text === '' || /^(#|\/\/)/.test(text)) continue;
      found.push(this.#entry(text));
    }
  }

  #entry(text: string): HclEntry {
    const line = this.#next;
    const [, name = '', value] = /^([\w-]+|"[^"]+")\s*=\s*(.+)$/.exec(text) ?? [];
    if (value !== undefined) {
      return { name, labels: [], line, value: this.#value(value), body: [] };
    }
    const block = /^([\w-]+)((?:\s+"[^"]*")*)\s*\{\s*(\})?$/.exec(text);
    if (block === null) throw new Error(`line ${line}: ${text}`);
    const labels = [...(block[2] ?? '').matchAll(/"([^"]*)"/g)].map(([, label = '']) => label);
    const body = block[3] === undefined ? this.entries() : [];
    return { name: block[1] ?? '', labels, line, value: undefined, body };
  }

  #value(first: string): string {
    const marker = /^<<-?(\w+)$/.exec(first)?.[1];
    const lines = [first];
    const isOver = (): boolean =>
      marker === undefined
        ? isBalanced(lines.join('\n'))
        : lines.length > 1 && lines.at(-1) === marker;
    while (!isOver()) {
      const line = this.#take();
      if (line === undefined) throw new Error(`line ${this.#next}: the value ${first} has no end`);
      lines.push(line);
    }
    return lines.join('\n');
  }

  #take(): string | undefined {
    const line = this.#lines[this.#next];
    this.#next += 1;
    return line?.trim();
  }
}

/** Whether every bracket outside of strings is closed again. */
function isBalanced(text: string): boolean {
  const bare = text.replaceAll(/"(?:[^"\\]|\\.)*"/g, '');
  const count = (character: string): number => bare.split(character).length;
  return count('[') === count(']') && count('{') === count('}');
}
