import { fstatSync, readSync } from 'node:fs';

const maxShownBytes = 4096;
const maxLines = 3;
const progress = /\((\d+(?:\.\d+)?)\/100%\)/g;

/** How far qemu-img -p is, by the last of what it wrote; undefined before it wrote anything. */
export function percentOf(output: number): number | undefined {
  const [found] = [...tail(output).matchAll(progress)].slice(-1);
  return found === undefined ? undefined : Math.floor(Number(found[1]));
}

/** What it reported beside its progress, as one line. */
export function messages(output: number): string {
  const lines = tail(output)
    .replaceAll(progress, '')
    .split(/[\r\n]+/)
    .map((line) =>
      line
        .replace(/^qemu-img: /, '')
        // The text may contain what the image contains.
        .replaceAll(/\p{Cc}/gu, '?')
        .trim(),
    )
    .filter((line) => line !== '');
  return lines.slice(-maxLines).join('; ') || 'it gave no reason';
}

function tail(output: number): string {
  const { size } = fstatSync(output);
  const bytes = Buffer.alloc(Math.min(size, maxShownBytes));
  return bytes.toString('utf8', 0, readSync(output, bytes, 0, bytes.length, size - bytes.length));
}
