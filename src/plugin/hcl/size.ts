/** The first has the exponent 0. */
const prefixes = ['', 'K', 'M', 'G', 'T', 'P', 'E'];

/** What sizes look like, for messages. */
export const sizeForm =
  'write a number with a unit, such as "20GiB" or "20GB"; without one it is bytes';

/**
 * Bytes of a size: digits, optionally a blank and a unit, in any case. `GB` is a power of 1000; `GiB`, `Gi` and `G` are one of
 * 1024, as for QEMU. undefined when it is none.
 */
export function parseSize(text: string): number | undefined {
  const [, digits, prefix = '', tail = ''] = /^(\d+) ?(?:([KMGTPE])?(iB?|B)?)$/i.exec(text) ?? [];
  if (digits === undefined || (prefix === '' && /^i/i.test(tail))) return undefined;
  const base = tail.toUpperCase() === 'B' ? 1000 : 1024;
  return Number(digits) * base ** prefixes.indexOf(prefix.toUpperCase());
}
