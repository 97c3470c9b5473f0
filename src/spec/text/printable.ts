/** Text of a guest, or of a peer, for an event or an error: without control and formatting characters, on one line, and short. */
export function printable(text: string, max: number): string {
  const line = text.replaceAll(/[\p{C}\p{Z}]+/gu, ' ').trim();
  return line.length <= max ? line : `${line.slice(0, max - 1).trimEnd()}…`;
}
