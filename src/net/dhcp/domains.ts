/**
 * Names of domains as DNS writes them, one after the other and uncompressed (RFC 1035, 3.1): as many as fit. What is no
 * domain name is left out.
 */
export function encodeDomains(domains: readonly string[], maxBytes: number): Buffer {
  let bytes = Buffer.alloc(0);
  for (const domain of domains) {
    const labels = domain.replace(/\.$/, '').split('.');
    if (!labels.every((label) => /^[\w-]{1,63}$/.test(label))) continue;
    const name = labels.map((label) => Buffer.from(`${String.fromCharCode(label.length)}${label}`));
    const longer = Buffer.concat([bytes, ...name, Buffer.of(0)]);
    if (longer.length <= maxBytes) bytes = longer;
  }
  return bytes;
}
