import { ImageError } from '../error.ts';

/** A name as FAT has it: eight and three characters, and the long name where that is another. */
export interface FatName {
  /** 11 characters of ASCII, without the dot. */
  readonly short: string;
  readonly long: string | undefined;
}

const maxLongName = 255;
/** QEMU's vvfat does as well without more: seven digits would leave nothing of the name. */
const maxSameNames = 99_999;

// U+FFFD is what bytes that are no UTF-8 are read as.
const impossible = /[\p{Cc}"*/:<>?\\|\ufffd]/u;
const plain = "[A-Z0-9_$~!#%&'()@^`{}-]";
const shortForm = new RegExp(`^(${plain}{1,8})(?:\\.(${plain}{1,3}))?$`);

/** The names of one folder, in the same order. Throws ImageError for one that FAT can't have, and for two that differ in case only. */
export function fatNames(names: readonly string[], folder: string): readonly FatName[] {
  checkNames(names, folder);
  // A name that is short as it is keeps its form, whatever is made for the others.
  const taken = new Set(names.flatMap((name) => asShort(name) ?? []));
  const counts = new Map<string, number>();
  return names.map((name) => {
    const short = asShort(name);
    return short === undefined
      ? { short: makeShort(name, { taken, counts }), long: name }
      : { short, long: undefined };
  });
}

/** Throws ImageError for a name that FAT can't have, and for two that differ in case only. */
export function checkNames(names: readonly string[], folder: string): void {
  const seen = new Map<string, string>();
  for (const name of names) {
    const problem = nameProblem(name);
    if (problem !== undefined) throw refused(folder, name, problem);
    const other = seen.get(name.toUpperCase());
    if (other !== undefined) throw refused(folder, name, `differs from "${other}" in case only`);
    seen.set(name.toUpperCase(), name);
  }
}

function refused(folder: string, name: string, problem: string): ImageError {
  const text = `${folder}: the name ${JSON.stringify(name)} ${problem}, which a FAT disk can't have`;
  return new ImageError('refused', text);
}

function nameProblem(name: string): string | undefined {
  const [wrong] = impossible.exec(name) ?? [];
  if (wrong !== undefined) return `contains ${JSON.stringify(wrong)}`;
  if (name.length > maxLongName) return `is longer than ${maxLongName} characters`;
  return /[. ]$/.test(name) ? 'ends with a dot or a space' : undefined;
}

function asShort(name: string): string | undefined {
  const [, stem, extension = ''] = shortForm.exec(name) ?? [];
  return stem === undefined ? undefined : padded(stem, extension);
}

/** `network-config` → `NETWOR~1`. */
function makeShort(
  name: string,
  { taken, counts }: { readonly taken: Set<string>; readonly counts: Map<string, number> },
): string {
  const dot = name.lastIndexOf('.');
  const stem = onlyPlain(dot > 0 ? name.slice(0, dot) : name).slice(0, 6) || '_';
  const extension = dot > 0 ? onlyPlain(name.slice(dot + 1)).slice(0, 3) : '';
  const key = padded(stem, extension);
  for (let count = (counts.get(key) ?? 0) + 1; count <= maxSameNames; count += 1) {
    const tail = `~${count}`;
    const short = padded(`${stem.slice(0, 8 - tail.length)}${tail}`, extension);
    counts.set(key, count);
    if (taken.has(short)) continue;
    taken.add(short);
    return short;
  }
  throw new ImageError('refused', `too many names like ${name} in one directory`);
}

function onlyPlain(text: string): string {
  return text.toUpperCase().replaceAll(/[^A-Z0-9_-]/g, '');
}

function padded(stem: string, extension: string): string {
  return stem.padEnd(8) + extension.padEnd(3);
}
