/** What keeps a text from being the MAC address of a guest's card; undefined for one that can be. */
export function macProblem(text: string): string | undefined {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    return 'is not a MAC address such as 52:54:00:12:34:56';
  }
  const first = Number.parseInt(text.slice(0, 2), 16);
  if ((first & 1) === 1) return 'is a group address: the first byte of a card is even';
  if (/^[0:]+$/.test(text)) return 'is the address of no card';
  // The host's end has the guest's address with this byte (net/model/names.ts).
  if (first === hostEndByte) return 'begins with fe, which is for the host’s end of the interface';
  return undefined;
}

const hostEndByte = 0xfe;
