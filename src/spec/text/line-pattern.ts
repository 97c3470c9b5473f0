import { type PatternNode, parsePattern } from './pattern-syntax.ts';

/** One step of a program; `next` and `other` are places in it. */
type Step =
  | { readonly kind: 'byte'; readonly set: Uint8Array; readonly next: number }
  | { readonly kind: 'either'; readonly next: number; other: number }
  | { readonly kind: 'line-start' | 'line-end'; readonly next: number }
  | { readonly kind: 'found' };

/** Both bound the time that a pattern takes to be made ready, to 0.1 s. */
const maxSteps = 250;
const maxStates = 250;

/** A regular expression that lines of bytes are searched for, as an automaton: one look into its table for each byte. */
export interface LinePattern {
  readonly start: number;
  readonly found: number;
  /** Bytes of one column lead to the same states. */
  readonly columnOf: Uint8Array;
  readonly columns: number;
  /** The next state, by state and column. */
  readonly table: Uint16Array;
}

/**
 * The pattern of a text, as RE2 has it as far as it is supported. Whatever it is, a search takes the same short time for
 * each byte. Throws SyntaxError with what is wrong.
 */
export function linePattern(text: string): LinePattern {
  const steps: Step[] = [{ kind: 'found' }];
  const start = compile(parsePattern(text), 0, steps);
  return automatonOf(steps, start);
}

/** Searches bytes that come in pieces, split anywhere, for a pattern; keeps no bytes. */
export class LineSearch {
  readonly #pattern: LinePattern;
  #state: number;

  constructor(pattern: LinePattern) {
    this.#pattern = pattern;
    this.#state = pattern.start;
  }

  /** Whether the bytes so far have the pattern. */
  push(bytes: Uint8Array): boolean {
    const { found, columnOf, columns, table } = this.#pattern;
    let state = this.#state;
    for (const byte of bytes) state = table[state * columns + (columnOf[byte] ?? 0)] ?? found;
    this.#state = state;
    return state === found;
  }
}

/** Appends the steps of a node that go on at `next`; returns the place of their first. */
function compile(node: PatternNode, next: number, steps: Step[]): number {
  switch (node.kind) {
    case 'byte': {
      const set = new Uint8Array(256);
      for (const byte of node.set) set[byte] = 1;
      return add({ kind: 'byte', set, next }, steps);
    }
    case 'line-start':
    case 'line-end':
      return add({ kind: node.kind, next }, steps);
    case 'sequence':
      return node.of.reduceRight((after, part) => compile(part, after, steps), next);
    case 'either':
      return node.of
        .map((part) => compile(part, next, steps))
        .reduce((first, other) => add({ kind: 'either', next: first, other }, steps));
    case 'repeat':
      return compileRepeat(node, next, steps);
    default:
      return node satisfies never;
  }
}

function compileRepeat(
  { of, min, max }: Extract<PatternNode, { kind: 'repeat' }>,
  next: number,
  steps: Step[],
): number {
  let first = next;
  if (max === undefined) {
    const loop: Step = { kind: 'either', next, other: next };
    first = add(loop, steps);
    loop.other = compile(of, first, steps);
  }
  for (let count = min; count < (max ?? min); count += 1) {
    first = add({ kind: 'either', next, other: compile(of, first, steps) }, steps);
  }
  for (let count = 0; count < min; count += 1) first = compile(of, first, steps);
  return first;
}

function add(step: Step, steps: Step[]): number {
  if (steps.length >= maxSteps) {
    throw new SyntaxError(`has more than ${maxSteps} steps, repetitions counted out`);
  }
  return steps.push(step) - 1;
}

const lineFeed = 10;
const carriageReturn = 13;

/** Every set of places where a search may stand is a state; the first one is where the pattern is found. */
function automatonOf(steps: readonly Step[], start: number): LinePattern {
  const { columnOf, samples } = columnsOf(steps);
  const states: (readonly number[])[] = [[0]];
  const known = new Map([['0', 0]]);
  const stateOf = (places: readonly number[]): number => {
    if (places.includes(0)) return 0;
    const key = places.toSorted((a, b) => a - b).join();
    const number = known.get(key) ?? states.push(places) - 1;
    if (number >= maxStates) {
      throw new SyntaxError(
        'is too complex: leave out repetitions like ".{20}" that something follows',
      );
    }
    known.set(key, number);
    return number;
  };
  const first = stateOf(closure(steps, [start], { lineStart: true }));
  const rows: number[] = [];
  for (const places of states) {
    for (const byte of samples) rows.push(stateOf(after(steps, { places, start, byte })));
  }
  const table = Uint16Array.from(rows);
  return { start: first, found: 0, columnOf, columns: samples.length, table };
}

/** Bytes that no step distinguishes share a column; `samples` has one of each. */
function columnsOf(steps: readonly Step[]): {
  readonly columnOf: Uint8Array;
  readonly samples: readonly number[];
} {
  const sets = new Set(steps.flatMap((step) => (step.kind === 'byte' ? [step.set] : [])));
  const samples: number[] = [];
  const known = new Map<string, number>();
  const columnOf = Uint8Array.from({ length: 256 }, (_, byte) => {
    const key = `${isLineEnd(byte)} ${[...sets].map((set) => set[byte]).join('')}`;
    const column = known.get(key) ?? samples.push(byte) - 1;
    known.set(key, column);
    return column;
  });
  return { columnOf, samples };
}

/** Where a search stands after one more byte. A match may begin at any of them. */
function after(
  steps: readonly Step[],
  {
    places,
    start,
    byte,
  }: { readonly places: readonly number[]; readonly start: number; readonly byte: number },
): readonly number[] {
  const lineEnd = isLineEnd(byte);
  const before = lineEnd ? closure(steps, places, { lineEnd }) : places;
  // Found with the end of the line, or earlier.
  if (before.includes(0)) return [0];
  const next = before.flatMap((place) => {
    const step = steps[place];
    return step?.kind === 'byte' && step.set[byte] === 1 ? [step.next] : [];
  });
  return closure(steps, [...next, start], { lineStart: lineEnd });
}

/** The places with all that follow without a byte. */
function closure(
  steps: readonly Step[],
  from: readonly number[],
  {
    lineStart = false,
    lineEnd = false,
  }: { readonly lineStart?: boolean; readonly lineEnd?: boolean },
): readonly number[] {
  const seen = new Set(from);
  // A set is walked in the order of insertion, with what is added on the way.
  for (const place of seen) {
    const step = steps[place];
    if (step?.kind === 'either') seen.add(step.next).add(step.other);
    else if (step?.kind === 'line-start' && lineStart) seen.add(step.next);
    else if (step?.kind === 'line-end' && lineEnd) seen.add(step.next);
  }
  return [...seen].filter((place) => steps[place]?.kind !== 'either');
}

/** Consoles end their lines with one of the two or both, in any order. */
function isLineEnd(byte: number): boolean {
  return byte === lineFeed || byte === carriageReturn;
}
