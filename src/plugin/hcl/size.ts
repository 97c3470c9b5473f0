/** The first has the exponent 0. */
const prefixes = ['', 'K', 'M', 'G', 'T', 'P', 'E'];

/** What sizes look like, for messages. */
export const sizeForm =
  'write a number with a unit, such as "20GiB" or "20GB"; without one it is bytes';

/**
 * Whole bytes of a size: a number, optionally a blank and a unit, in any case. `GB` is a power of 1000; `GiB`, `Gi` and `G` are
 * one of 1024, as for QEMU; only with one of these the number may have decimals. undefined when it is none.
 */
export function parseSize(text: string): number | undefined {
  const [, number, prefix = '', tail = ''] =
    /^(\d+(?:\.\d+)?) ?(?:([KMGTPE])?(iB?|B)?)$/i.exec(text) ?? [];
  if (number === undefined) return undefined;
  if (prefix === '' && (number.includes('.') || /^i/i.test(tail))) return undefined;
  const base = tail.toUpperCase() === 'B' ? 1000 : 1024;
  return Math.round(Number(number) * base ** prefixes.indexOf(prefix.toUpperCase()));
}
