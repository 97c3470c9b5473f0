/** Maximum size of a description. */
export const maxOvfBytes = 1024 * 1024;

/** Whether a file that begins so is the description of an OVA. */
export function isOvf(head: Uint8Array): boolean {
  const text = Buffer.from(head).toString('utf8');
  return /^\uFEFF?\s*<(?:\?xml|!--|[\w:]*Envelope)/.test(text) && /\/ovf\/envelope\b/.test(text);
}

/** The names of the files that an OVF description calls disks. Not a reader of XML: only attributes of two elements count. */
export function ovfDisks(text: string): readonly string[] {
  const files = new Map<string, string>();
  for (const attributes of elements(text, 'File')) {
    const [id, href] = [attributes.get('id'), attributes.get('href')];
    if (id !== undefined && href !== undefined) files.set(id, href);
  }
  const disks = elements(text, 'Disk').flatMap((attributes) => {
    const href = files.get(attributes.get('fileRef') ?? '');
    return href === undefined ? [] : [href];
  });
  return [...new Set(disks)];
}

function elements(text: string, name: string): readonly ReadonlyMap<string, string>[] {
  return text
    .split('<')
    .filter((tag) => new RegExp(`^(?:\\w{1,20}:)?${name}\\s`).test(tag))
    .map((tag) => {
      const found = tag.matchAll(
        /(?<=[\s:])(\w{1,40})\s*=\s*(?:"([^"]{0,4096})"|'([^']{0,4096})')/g,
      );
      return new Map(
        [...found].map(([, key = '', one, other]) => [key, decoded(one ?? other ?? '')]),
      );
    });
}

function decoded(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    lt: '<',
    gt: '>',
    quot: '"',
    apos: "'",
    amp: '&',
  };
  return text.replace(/&(lt|gt|quot|apos|amp);/g, (whole, name: string) => entities[name] ?? whole);
}
