/** Maximum nesting. QEMU's own parser stops at 1024; a block graph of 100 images needs about 200. */
export const maxDepth = 256;

/** Maximum values in one line. The schema of QEMU 7.2, the largest answer of all, which is never requested, has 22 000. */
export const maxItems = 32 * 1024;

/** Maximum digits in a row: 2^64 has 20, and a double as QEMU writes it 17 behind some zeros. */
export const maxDigits = 40;

/**
 * Why a text is not parsed as JSON, even if it is valid: deep nesting, many values and long numbers cost more time and
 * memory than their size. undefined for everything that an unmodified QEMU writes.
 */
export function jsonProblem(text: string): string | undefined {
  let [depth, items, digits] = [0, 0, 0];
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (isDigit(code)) {
      digits += 1;
      if (digits > maxDigits) return `has a number of more than ${maxDigits} digits`;
      continue;
    }
    digits = 0;
    if (code === quote) at = endOfString(text, at);
    else if (code === openBrace || code === openBracket) {
      depth += 1;
      items += 1;
      if (depth > maxDepth) return `nests deeper than ${maxDepth} levels`;
    } else if (code === closeBrace || code === closeBracket) depth -= 1;
    else if (code === comma) items += 1;
    if (items > maxItems) return `holds more than ${maxItems} values`;
  }
  return undefined;
}

const quote = 0x22;
const comma = 0x2c;
const backslash = 0x5c;
const [openBracket, closeBracket] = [0x5b, 0x5d];
const [openBrace, closeBrace] = [0x7b, 0x7d];

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/** The index of the quote that ends the string which begins here; the text's end where there is none. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === quote) return at;
    if (code === backslash) at += 1;
  }
  return text.length;
}
