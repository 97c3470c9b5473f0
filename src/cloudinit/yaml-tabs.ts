/**
 * The line, from 0, of the first tab that begins a token; undefined for none. PyYAML refuses such a tab where js-yaml
 * takes it for a blank: only quoted texts, block scalars and comments may have tabs. For texts that js-yaml has accepted.
 */
export function tabLine(text: string): number | undefined {
  const lines = text.split(/\r\n|[\r\n]/);
  let state: State = { quote: '', depth: 0, plainIndent: undefined };
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at] ?? '';
    if (line.startsWith('%')) continue;
    const scanned = scanLine(line, state);
    if (scanned.tab) return at;
    state = scanned.state;
    if (scanned.block) at = lastOfBlock(lines, at);
  }
  return undefined;
}

/** What one line leaves to the next. */
interface State {
  /** Of the quoted text that is open. */
  readonly quote: string;
  /** How many lists and mappings in brackets are open. */
  readonly depth: number;
  /** The indentation of the line on which an unquoted text began that may go on. */
  readonly plainIndent: number | undefined;
}

interface Scanned {
  readonly state: State;
  readonly tab: boolean;
  /** A block scalar follows. */
  readonly block: boolean;
}

const quotedRest = { '"': /(?:[^"\\]|\\.|\\$)*("?)/y, "'": /(?:[^']|'')*('?)/y } as const;

function scanLine(line: string, before: State): Scanned {
  let { quote, depth } = before;
  const indent = indentOf(line);
  const goesOn = before.plainIndent !== undefined && (depth > 0 || indent > before.plainIndent);
  const end = (plain: boolean, more: Partial<Scanned> = {}): Scanned => {
    const blank = line.trim() === '';
    const since = goesOn ? before.plainIndent : indent;
    const plainIndent = blank ? before.plainIndent : plain ? since : undefined;
    return { state: { quote, depth, plainIndent }, tab: false, block: false, ...more };
  };
  let plain = goesOn;
  for (let at = quote === '' ? indent : 0; at < line.length; ) {
    if (isQuote(quote)) {
      const rest = quotedRest[quote];
      rest.lastIndex = at;
      const found = rest.exec(line);
      at = rest.lastIndex;
      if (found?.[1] === '') return end(false);
      quote = '';
      plain = false;
      continue;
    }
    const character = line[at] ?? '';
    const next = line[at + 1] ?? ' ';
    const afterBlank = at === 0 || /\s/.test(line[at - 1] ?? '');
    at += 1;
    if (character === '\t') return end(plain, { tab: true });
    if (character === '#' && afterBlank) return end(false);
    if (character === ' ') continue;
    if (character === ':' && (/\s/.test(next) || depth > 0)) plain = false;
    else if (depth > 0 && /[,[\]{}]/.test(character)) {
      plain = false;
      if (/[[{]/.test(character)) depth += 1;
      else if (character !== ',') depth -= 1;
    } else if (plain) continue;
    else if (isQuote(character)) quote = character;
    else if (/[[{]/.test(character)) depth += 1;
    else if (depth === 0 && /[|>]/.test(character)) {
      const comment = line.indexOf(' #', at);
      const header = comment < 0 ? line.slice(at) : line.slice(at, comment);
      return end(false, { block: true, tab: header.includes('\t') });
    } else if (/[&!*]/.test(character)) {
      while (at < line.length && !/[\s,[\]{}]/.test(line[at] ?? '')) at += 1;
    } else if (!(/[-?]/.test(character) && /\s/.test(next))) plain = true;
  }
  return end(plain);
}

/** The last line of the block scalar whose header is on that line. */
function lastOfBlock(lines: readonly string[], header: number): number {
  const line = lines[header] ?? '';
  // On a line of its own the header has nothing of its parent's indentation.
  const alone = /^ *[|>&!]/.test(line);
  const min = line.startsWith('---') ? 0 : alone ? 1 : indentOf(line) + 1;
  const first = firstLine(lines, header + 1, () => true);
  if (first === undefined) return lines.length;
  // With an indentation indicator the first line may be indented further than the text is.
  const found = /[|>][+-]?[1-9]/.test(line) ? min : indentOf(lines[first] ?? '');
  if (found < min) return header;
  const after = firstLine(lines, first, (line) => indentOf(line) < found);
  return after === undefined ? lines.length : after - 1;
}

/** Of those that are not blank. A line of a tab is not. */
function firstLine(
  lines: readonly string[],
  from: number,
  isWanted: (line: string) => boolean,
): number | undefined {
  for (let at = from; at < lines.length; at += 1) {
    const line = lines[at] ?? '';
    if (/[^ ]/.test(line) && isWanted(line)) return at;
  }
  return undefined;
}

function indentOf(line: string): number {
  return /^ */.exec(line)?.[0].length ?? 0;
}

function isQuote(character: string): character is '"' | "'" {
  return character === '"' || character === "'";
}
